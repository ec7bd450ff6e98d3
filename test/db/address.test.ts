/** The fingerprint of where a database is: equal only where it is the same one beyond doubt. */
import assert from 'node:assert/strict';
import { databaseFingerprint } from '../../src/db/address.ts';

const AT = 'postgres://till:secret@db.example:5432/pos';

/** With these PG… variables and no others. */
function withEnvironment<T>(variables: Readonly<Record<string, string>>, work: () => T): T {
  const before = Object.entries(process.env).filter(([name]) => name.startsWith('PG'));
  const clear = (): void => {
    for (const name of Object.keys(process.env))
      if (name.startsWith('PG')) Reflect.deleteProperty(process.env, name);
  };
  clear();
  try {
    Object.assign(process.env, variables);
    return work();
  } finally {
    clear();
    Object.assign(process.env, Object.fromEntries(before));
  }
}

describe('the fingerprint of a database', () => {
  const of = (url: string | undefined, variables = {}): string | undefined =>
    withEnvironment(variables, () => databaseFingerprint(url));

  it('is the same for the same host, port and name, whoever connects', () => {
    const same = [
      'postgresql://other:word@db.example:5432/pos',
      'postgres://db.example/pos',
      'postgres://DB.example/pos',
    ];
    assert.ok(of(AT));
    assert.deepEqual(
      same.map((url) => of(url)),
      same.map(() => of(AT)),
    );
    assert.equal(of(undefined, { PGHOST: 'db.example', PGDATABASE: 'pos' }), of(AT));
    assert.equal(of('postgres://db.example/pos', { PGPORT: '5432' }), of(AT));
  });

  it('differs where anything of it does', () => {
    const others = [
      of('postgres://till:secret@db.example:5433/pos'),
      of('postgres://till:secret@db.example:5432/pos2'),
      of('postgres://till:secret@db2.example:5432/pos'),
      of('postgres://db.example/pos', { PGPORT: '5434' }),
      of(undefined, { PGHOST: 'db.example', PGDATABASE: 'pos3' }),
    ];
    assert.equal(new Set([...others, of(AT)]).size, others.length + 1);
    assert.ok(others.every((fingerprint) => fingerprint !== undefined));
  });

  it('is not there where an address may mean several databases', () => {
    for (const url of [
      'postgres://db.example:5432/pos?host=elsewhere',
      'postgres://db.example:5432/',
      'postgres:///pos',
      'postgres://%2Frun%2Fpostgresql/pos',
      'socket:/run/postgresql?db=pos',
      '/run/postgresql pos',
      'http://db.example:5432/pos',
    ])
      assert.equal(of(url), undefined, url);
    assert.equal(of(undefined, { PGHOST: '/run/postgresql', PGDATABASE: 'pos' }), undefined);
    assert.equal(of(undefined, { PGHOST: 'db.example' }), undefined, 'the name of the user is taken');
    assert.equal(of(undefined), undefined);
  });

  it('tells nobody what it is made of', () => {
    assert.doesNotMatch(of(AT) ?? '', /pos|example|secret/);
  });
});
