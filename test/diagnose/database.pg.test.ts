/** What diagnose says of the database and the queue, on a real one that is broken on purpose. */
import assert from 'node:assert/strict';
import { diagnose, type Report } from '../../src/diagnose/diagnose.ts';
import type pg from 'pg';
import { storeDatabase, createDatabase, hqDatabase, type TestDatabase } from '../support/postgres.ts';
import { closedPort } from './support/raw.ts';

async function look(databaseUrl: string, only: readonly string[] = ['db', 'queue']): Promise<Report> {
  return diagnose({
    only,
    skip: ['daemon'],
    subject: {
      hqUrl: undefined,
      hqUrlSource: 'nowhere',
      bare: false,
      config: { file: undefined, faults: [], given: [], overridden: [], warnings: [] },
      stateDir: '/nowhere',
      logDir: '/nowhere',
      socketPath: '/nowhere/store.sock',
      databaseUrl,
      caFile: undefined,
      proxy: undefined,
      env: {},
      credentialFile: '/nowhere/credential',
      credential: undefined,
      store: undefined,
      hqId: undefined,
    },
  });
}

function told(report: Report): string {
  return report.checks
    .filter(({ status }) => status !== 'pass')
    .map(({ id, status, code, message }) => `${id} ${status} ${code ?? ''} ${message}`)
    .join('\n');
}

describe('diagnosis of the database', () => {
  let store: TestDatabase;
  let client: pg.Client;
  before(async () => {
    store = await storeDatabase('diagnose');
    client = await store.connect();
  });
  after(() => store.drop());

  const faults: readonly (readonly [string, string, string, string])[] = [
    [
      'a disabled capture trigger',
      'PS-DB-TRIGGER-DISABLED',
      'alter table public.sales disable trigger possync_up_insert',
      'alter table public.sales enable trigger possync_up_insert',
    ],
    [
      'a parked entry',
      'PS-QUEUE-PARKED',
      `update possync.sending set dead = '{7}'`,
      `update possync.sending set dead = '{}'`,
    ],
    [
      'a hole in the queue',
      'PS-QUEUE-GAP',
      `update possync.state set seq = 3, chain = decode(repeat('00', 32), 'hex')`,
      `update possync.state set seq = 0, chain = ''`,
    ],
    [
      'a stopped sending',
      'PS-UP-ROLLBACK',
      `update possync.sending set halted = 'PS-UP-ROLLBACK', halted_at = now()`,
      `update possync.sending set halted = null, halted_at = null`,
    ],
    [
      'a very long queue',
      'PS-QUEUE-DEEP',
      `insert into possync.tally (side, what, n) values ('sealed', '#entries', 12310)`,
      `delete from possync.tally`,
    ],
    [
      'a download that cannot be applied',
      'PS-APPLY-FAILED',
      `update possync.cursor set error = 'duplicate key', error_code = 'PS-APPLY-FAILED', error_at = now()`,
      `update possync.cursor set error = null, error_code = null, error_at = null`,
    ],
    [
      'a read-only database',
      'PS-DB-READONLY',
      `do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$`,
      `set default_transaction_read_only = off;
       do $$ begin execute format('alter database %I reset default_transaction_read_only', current_database()); end $$`,
    ],
    [
      'a missing capture trigger',
      'PS-DB-TRIGGER-MISSING',
      'drop trigger possync_up_insert on public.sales',
      'select 1',
    ],
  ];

  it('finds nothing on a healthy one', async () => {
    const report = await look(store.url);
    assert.equal(told(report), '');
  });

  for (const [what, code, breakIt, mend] of faults) {
    it(`gives ${code} for ${what}`, async () => {
      await client.query(breakIt);
      try {
        const report = await look(store.url);
        assert.equal(report.verdict.code, code, told(report));
      } finally {
        await client.query(mend);
      }
    });
  }

  it('gives PS-DB-DOWN where nothing listens', async () => {
    const report = await look(`postgres://nobody@127.0.0.1:${await closedPort()}/none`);
    assert.equal(report.verdict.code, 'PS-DB-DOWN', told(report));
    assert.equal(report.checks.find(({ id }) => id === 'queue.depth')?.skippedBecause, 'db.connect');
  });

  it('gives PS-DB-NODB for a database that does not exist', async () => {
    const url = new URL(store.url);
    url.pathname = '/no_such_database';
    const report = await look(url.href);
    assert.equal(report.verdict.code, 'PS-DB-NODB', told(report));
    assert.equal(report.checks.find(({ id }) => id === 'db.connect')?.status, 'pass', 'it did answer');
    assert.equal(report.checks.find(({ id }) => id === 'queue.depth')?.skippedBecause, 'db.auth');
  });

  it('gives PS-DB-MIGRATE for an empty database', async () => {
    const empty = await createDatabase('diagnose_empty');
    const report = await look(empty.url);
    assert.equal(report.verdict.code, 'PS-DB-MIGRATE', told(report));
    await empty.drop();
  });

  it("gives PS-DB-ROLE for HQ's database", async () => {
    const hq = await hqDatabase('diagnose_hq');
    const report = await look(hq.url);
    assert.equal(report.verdict.code, 'PS-DB-ROLE', told(report));
    await hq.drop();
  });
});
