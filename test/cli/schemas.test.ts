/** What every command prints with --json, held against the schema that is shipped for it: by a validator of others. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { format } from 'prettier';
import { uuidv7 } from '../../src/core/ids.ts';
import {
  DOCUMENTS,
  jsonSchema,
  LINES,
  SCHEMA_NAMES,
  type SchemaName,
} from '../../src/cli/schemas/documents.ts';
import { closeSession } from '../../src/demo/cash-office.ts';
import { possync } from '../support/cli.ts';
import { CliWorld, COMMAND_RUNS, type At } from '../support/cli-world.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { runPossync, startPossync } from '../support/process.ts';
import { until } from '../support/until.ts';

const FOLDER = resolve(import.meta.dirname, '../../schemas');

const ajv = new Ajv2020({ strict: true, allErrors: true, allowUnionTypes: true });
ajv.addFormat(
  'date-time',
  (text: string) => /T.*(Z|[+-]\d\d:\d\d)$/.test(text) && !Number.isNaN(Date.parse(text)),
);
ajv.addFormat('date', /^\d{4}-\d\d-\d\d$/);
ajv.addFormat('uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);

/** With every field described: what is printed and not listed is red. */
const closed = new Map<SchemaName, ValidateFunction>(
  SCHEMA_NAMES.map((name) => [
    name,
    ajv.compile({ ...jsonSchema(name, { closed: true }), $id: `closed:${name}` }),
  ]),
);

const seen = new Set<string>();

function assertValid(name: string, value: unknown): void {
  const validate = closed.get(name as SchemaName);
  assert.ok(validate, `${name} is no document of the list`);
  assert.ok(
    validate(value),
    `${name}: ${ajv.errorsText(validate.errors)}\n${JSON.stringify(value, null, 1)}`,
  );
  seen.add(name);
}

/** The document on stdout, valid, and with the exit code of the process. */
function assertDocument(stdout: string, code: number | null): Record<string, unknown> {
  const document = JSON.parse(stdout) as { schema: string; exit_code: number };
  assertValid(document.schema, document);
  assert.equal(document.exit_code, code);
  return { ...document };
}

function assertLines(name: keyof typeof LINES, lines: readonly string[]): void {
  assert.ok(lines.length > 0, `no line of ${name}`);
  for (const line of lines) assertValid(name, JSON.parse(line));
}

describe('a document of the program', function () {
  this.timeout(180_000);
  let world: CliWorld;

  before(async () => {
    world = await CliWorld.open('schemas');
  });
  after(async () => {
    await world.close();
  });

  const run = async (at: At, words: string): Promise<Record<string, unknown>> => {
    const { code, stdout, stderr } = await possync([...words.split(' '), '--json'], { env: world.env(at) });
    assert.doesNotMatch(stderr, /^\s*[[{]/m);
    return assertDocument(stdout, code);
  };

  for (const [path, { at, works, until: lasting }] of Object.entries(COMMAND_RUNS).filter(
    ([name]) => name !== 'demo',
  ))
    if (lasting === undefined)
      it(`of \`possync ${path}\` is as its schema says`, async () => {
        await run(at, [path, ...works(9, world)].join(' '));
      });

  for (const [path, { fails = [], failsIn }] of Object.entries(COMMAND_RUNS))
    it(`of \`possync ${path}\`, when it fails, is possync.error/1`, async () => {
      const { code, stdout } = await possync([...path.split(' '), ...fails, '--json'], {
        env: { ...world.nowhere(), ...failsIn },
      });
      assert.equal(assertDocument(stdout, code).schema, 'possync.error/1');
    });

  it('of other flags, on the other side, and of what has happened meanwhile as well', async () => {
    const { dir, hq, store } = world;
    for (const [at, words] of [
      ['hq', 'status'],
      ['hq', 'status CLI-1 --wait green --timeout 100ms'],
      ['hq', 'queue ls'],
      ['hq', 'queue ls --dead'],
      ['store', 'queue ls --counts'],
      ['store', 'token ls'],
      ['hq', 'token ls CLI-1'],
      ['hq', `token issue CLI-1 --hq-url ${hq.running.url} --out ${join(dir, 'token')}`],
      ['hq', 'token issue CLI-1 --hq-url https://hq.example.com --dry-run'],
      ['hq', 'token status --all'],
      ['hq', 'token rotate --all --dry-run'],
      ['hq', 'token rotate --all --withdraw'],
      ['store', `store init --token-file ${join(dir, 'token')}`],
      ['store', 'store re-enrol'],
      ['hq', 'hq serve --check'],
      ['nowhere', 'diagnose --list'],
      ['nowhere', 'diagnose --hq ws://127.0.0.1:9 --quick'],
      ['store', 'diagnose --quick --local'],
      ['nowhere', 'schema'],
      ['hq', 'verify'],
    ] as const)
      await run(at, words);
    assert.equal(
      (await run('nowhere', `hq serve --check --tls-cert-file ${dir}/none --tls-key-file x`)).exit_code,
      78,
    );

    // A daemon that works, the books of a day that do not add up, a record that differs.
    const till = await store.database.connect();
    const session = await openSession(till, await addRegister(till, store.id), store.id);
    for (const receipt of ['R1-0001', 'R1-0003']) await sell(till, session, { storeId: store.id, receipt });
    await closeSession(till, {
      sessionId: session,
      closedAt: new Date().toISOString(),
      businessDate: '2026-11-20',
      overShort: 0,
    });
    await store.start();
    await store.untilLight('green', 60_000);
    await run('store', 'status');
    await until(async () => (await run('store', 'status --wait drained')).exit_code === 0, {
      what: 'the queue is empty',
      timeoutMs: 60_000,
    });
    await until(
      async () => {
        const { findings, reports } = await run('hq', 'ledger --all');
        return (findings as unknown[]).length > 0 && (reports as unknown[]).length > 0;
      },
      { what: 'the ledger has judged the day', timeoutMs: 60_000 },
    );
    await till.query(`set session_replication_role = 'replica'`);
    await till.query('update public.sales set receipt_number = $1::text where receipt_number = $2::text', [
      'R1-9999',
      'R1-0001',
    ]);
    assert.equal((await run('hq', 'verify CLI-1')).exit_code, 1);
    await run('store', 'verify --repair');
    for (const side of ['hq', 'store'] as const) await run(side, 'verify --repairs');
    await run('store', 'queue show 1 --payload');
    await run('hq', 'status');
    await run('store', 'token rotate');
    await run('store', 'token rotate --if-expires-within 1d');
    await run('store', 'token status --warn 400d');
    await run('hq', 'token rotate CLI-1 --wait 60s');
    await run('hq', 'queue drop CLI-1 7 --reason r');
    await run('hq', 'token revoke CLI-1');
    await store.untilLight('red', 60_000);
    await run('store', 'status');
    await run('hq', 'status');
    await run('hq', 'stores show CLI-1');
    await store.stop();
  });

  it('of a demo, and each line of what has no end', async () => {
    const demo = await runPossync(['demo', '--for', '1s', '--stores', '1', '--json']);
    assertDocument(demo.stdout, demo.code);
    const { store } = world;
    await store.pool.query(
      `insert into public.registers (id, store_id, code, name) values ($1::uuid, $2::int, 'R8', 'R')`,
      [uuidv7(), store.id],
    );
    const queue = await possync(['queue', 'ls', '--jsonl'], { env: world.env('store') });
    assertLines('possync.queue-line/1', queue.stdout.trimEnd().split('\n'));
    const checks = await possync(['diagnose', '--hq', 'ws://127.0.0.1:9', '--format', 'jsonl'], {
      env: world.env('nowhere'),
    });
    const lines = checks.stdout.trimEnd().split('\n');
    assertDocument(lines.pop() ?? '', checks.code);
    assertLines('possync.check-line/1', lines);
    for (const [at, words] of [
      ['hq', ['hq', 'serve']],
      ['store', ['store', 'daemon']],
    ] as const) {
      const server = await startPossync(words, { env: world.env(at) });
      assertLines('possync.ready-line/1', [await server.line(/"event":"ready"/, 60_000)]);
      await server.stop();
    }
    const logs = await startPossync(['logs', '--role', 'hq', '--follow', '--json'], {
      env: world.env('nowhere'),
    });
    assertLines('possync.log-line/1', [await logs.line(/^\{/, 60_000)]);
    await logs.stop('SIGINT');
  });

  it('is printed by one of the tests above, whichever it is', () => {
    assert.deepEqual(
      SCHEMA_NAMES.filter((name) => !seen.has(name)),
      [],
    );
  });

  it('with a field too many or too few, or of another type, is not', () => {
    const frame = { generated_at: '2026-11-23T00:00:00Z', possync: '1.0.0', exit_code: 69 };
    const error = { code: 'PS-DB-DOWN', message: 'x', why: 'y', hint: 'z' };
    const document = { schema: 'possync.error/1', ...frame, error };
    assertValid('possync.error/1', document);
    const hintless = { ...error, hint: undefined };
    for (const wrong of [
      { ...document, more: 1 },
      { ...document, error: { ...error, more: 1 } },
      { ...document, error: hintless },
      { ...document, error: { ...error, code: 'no code' } },
      { ...document, exit_code: 5 },
      { ...document, generated_at: 'today' },
      { ...document, schema: 'possync.error/2' },
    ])
      assert.throws(() => {
        assertValid('possync.error/1', wrong);
      });
    // Readers are told that fields may be added.
    const open = ajv.compile({ ...jsonSchema('possync.error/1'), $id: 'open' });
    assert.ok(open({ ...document, error: { ...error, more: 1 } }));
    assert.ok(!open({ ...document, error: hintless }));
  });
});

describe('the schemas', () => {
  for (const name of SCHEMA_NAMES)
    it(`of ${name} are printed and shipped as the program has it (UPDATE_DOCS=1 writes it)`, async () => {
      const schema = jsonSchema(name);
      assert.ok(ajv.validateSchema(schema), ajv.errorsText(ajv.errors));
      assert.equal(schema.$schema, 'https://json-schema.org/draft/2020-12/schema');
      const { stdout } = await possync(['schema', name]);
      assert.deepEqual(JSON.parse(stdout), JSON.parse(JSON.stringify(schema)));
      const file = join(FOLDER, fileOf(name));
      const text = await format(stdout, { parser: 'json', printWidth: 110 });
      if (process.env.UPDATE_DOCS === '1') writeFileSync(file, text);
      assert.equal(readFileSync(file, 'utf8'), text);
    });

  it('are in no other file', () => {
    assert.deepEqual(readdirSync(FOLDER).sort(), SCHEMA_NAMES.map(fileOf).sort());
    assert.equal(Object.keys(DOCUMENTS).length + Object.keys(LINES).length, SCHEMA_NAMES.length);
  });

  it('are found by a short name, and a wrong one is answered with the nearest', async () => {
    assert.equal((await possync(['schema', 'queue-line'])).code, 0);
    assert.match((await possync(['schema', 'statsu'])).stderr, /did you mean status\?/);
  });
});

function fileOf(name: string): string {
  return `${name.replace('/', '-')}.json`;
}
