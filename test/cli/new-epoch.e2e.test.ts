/** `store re-enrol` and `store reexport` by command, with the daemon up and down, and signals to the built program. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { uuidv7 } from '../../src/core/ids.ts';
import { queryOne } from '../../src/db/transaction.ts';
import { possync, type CliResult } from '../support/cli.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { startPossync } from '../support/process.ts';
import { until } from '../support/until.ts';

describe('a new epoch by command', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let store: TestStore;
  const register = uuidv7();

  before(async () => {
    hq = await TestHq.open('new epoch');
    store = await TestStore.open(hq, 'EP-1');
    await store.untilLight('green');
    await add(register);
    await atHq(1);
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  const env = (): Record<string, string> => ({
    DATABASE_URL: store.database.url,
    POSSYNC_STATE_DIR: store.stateDir,
  });
  const run = (...args: string[]): Promise<CliResult> => possync(args, { env: env() });
  const add = (id: string) =>
    store.pool.query(`insert into public.registers (id, store_id, code, name) values ($1, $2, 'R', 'R')`, [
      id,
      store.id,
    ]);
  const atHq = (n: number) =>
    until(
      async () =>
        (await queryOne<{ n: number }>(hq.pool, 'select count(*) as n from public.registers')).n === n,
      { what: `${n} registers are at HQ` },
    );
  const epochs = async (): Promise<[number, number]> => [
    (await queryOne<{ epoch: number }>(store.pool, 'select epoch from possync.state')).epoch,
    (
      await queryOne<{ epoch: number }>(hq.pool, 'select epoch from possync.inbox where store_id = $1', [
        store.id,
      ])
    ).epoch,
  ];

  it('--dry-run says what would happen and changes nothing', async () => {
    const { code, stdout } = await run('store', 're-enrol', '--dry-run');
    assert.equal(code, 0);
    assert.match(stdout, /Would end epoch 1 .*\nNothing was changed\.\n$/);
    assert.deepEqual(await epochs(), [1, 1]);
  });

  it('begins through the running daemon, whose link goes on under it', async () => {
    const { code, stdout, stderr } = await run('store', 're-enrol', '--json');
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.equal((JSON.parse(stdout) as { epoch: number }).epoch, 2);
    await add(uuidv7());
    await atHq(2);
    assert.deepEqual(await epochs(), [2, 2]);
  });

  it('begins without the daemon, and what waited is sent once it runs', async () => {
    await store.stop();
    await add(uuidv7());
    const { code, stdout } = await run('store', 're-enrol');
    assert.equal(code, 0, stdout);
    assert.match(stdout, /Epoch 3 has begun; 1 entry waits/);
    await store.start();
    await atHq(3);
  });

  it('reexport sends what HQ has again, and HQ takes it as the same', async () => {
    const { code, stdout, stderr } = await run('store', 'reexport', '--from', '2020-01-01', '--json');
    assert.equal(code, 0, `${stdout}${stderr}`);
    assert.equal((JSON.parse(stdout) as { epoch: number }).epoch, 4);
    assert.equal((await run('status', '--wait', 'drained', '--timeout', '20')).code, 0);
    await atHq(3);
    assert.equal((await queryOne<{ n: number }>(hq.pool, 'select count(*) as n from possync.dead')).n, 0);
  });

  it('with a fresh token replaces the credential as well', async () => {
    const before = JSON.parse((await run('token', 'ls', '--json')).stdout) as { tokens: { kid: string }[] };
    const issued = await possync(['token', 'issue', 'EP-1', '--hq-url', hq.running.url], {
      env: { DATABASE_URL: hq.database.url },
    });
    const file = join(store.stateDir, 'fresh.token');
    await writeFile(file, issued.stdout);
    const { code, stdout, stderr } = await run('store', 're-enrol', '--token-file', file);
    assert.equal(code, 0, `${stdout}${stderr}`);
    const after = JSON.parse((await run('token', 'ls', '--json')).stdout) as { tokens: { kid: string }[] };
    assert.notEqual(after.tokens[0]?.kid, before.tokens[0]?.kid);
    await store.untilLight('green');
    await add(uuidv7());
    await atHq(4);
  });

  it('Ctrl-C ends a watch at once with 130', async () => {
    const watch = await startPossync(['status', '--watch', '1s'], { env: env() });
    await watch.line(/connected, \d+ queued/);
    const { code, stderr } = await watch.stop('SIGINT');
    assert.equal(code, 130, stderr);
  });

  it('a reader that has seen enough is no error', async () => {
    const { startProgram } = await import('../support/process.ts');
    const bin = join(import.meta.dirname, '../../bin/possync.js');
    const shell = await startProgram('/bin/sh', [
      '-c',
      `for i in 1 2 3; do node ${bin} help codes | head -1 || exit 1; done`,
    ]);
    const { code, stderr } = await shell.ended();
    assert.deepEqual([code, stderr], [0, '']);
  });
});
