/**
 * A rotation killed at every single step, on either side, with its answers lost, its disk turned read-only, and twice at once.
 *
 * The steps are not chosen here: one rotation is traced, and each step of the trace is a place to die. POSSYNC_TEST_ROTATION_RUNS
 * says how often each is tried (1; 20 for the record, see docs/rotation.md), POSSYNC_TEST_ROTATION_FROM at which step of a
 * trace to begin (1), so that a long run can be had in parts.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createPool } from '../../src/db/pool.ts';
import { hashSecret, newKid, newSecret, formatCredential } from '../../src/core/secret.ts';
import { readCredential } from '../../src/store/credential.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { hqDatabase, storeDatabase } from '../support/postgres.ts';
import { runPossync, startPossync, type TestProcess } from '../support/process.ts';
import { until } from '../support/until.ts';

const RUNS = Number(process.env.POSSYNC_TEST_ROTATION_RUNS ?? 1);
const FROM = Number(process.env.POSSYNC_TEST_ROTATION_FROM ?? 1);
/** A machine with much else to do. */
const ENDED_MS = 120_000;
const DIE_AT = pathToFileURL(join(import.meta.dirname, '../support/die-at.mjs')).href;
/** Fewer than the design asks for would mean that the trace has missed something. */
const STEPS_AT_LEAST = 14;

/** The steps of a trace that this run takes. */
function wanted(trace: readonly string[]): readonly string[] {
  const steps = trace.slice(FROM - 1);
  assert.ok(steps.length > 0, `the trace has ${trace.length} steps: there is no step ${FROM} to begin at`);
  return steps;
}

describe('a rotation that is killed', function () {
  this.timeout(120_000 + RUNS * 240_000);
  let hq: TestHq;
  let store: TestStore;
  let proxy: FaultProxy;
  let dir: string;
  const counts: Record<string, number> = {};

  before(async () => {
    await runPossync(['--version']); // what is started later is built by then
    dir = await mkdtemp(join(tmpdir(), 'possync-kill-'));
    hq = await TestHq.open('kill');
    store = await TestStore.open(hq, 'KILL-1');
    proxy = new FaultProxy({ host: '127.0.0.1', port: hq.port });
    await proxy.open();
    await store.untilLight('green');
  });
  after(async () => {
    await proxy.close();
    await store.close();
    await hq.close();
    await rm(dir, { recursive: true, force: true });
    if (RUNS > 1) console.log(JSON.stringify(counts, null, 2));
  });

  const tried = (what: string): void => {
    counts[what] = (counts[what] ?? 0) + 1;
  };
  const env = (more: Record<string, string> = {}): Record<string, string> => ({
    DATABASE_URL: store.database.url,
    POSSYNC_STATE_DIR: store.stateDir,
    ...more,
  });
  const watched = (more: Record<string, string>): Record<string, string> =>
    env({ NODE_OPTIONS: `--import ${DIE_AT}`, ...more });
  const rotateIn = (environment: Record<string, string>): Promise<TestProcess> =>
    startPossync(['token', 'rotate', '--revoke-old-now', '--json'], { env: environment });

  const accepted = async (url = hq.running.url): Promise<number> => {
    const text = await readFile(join(store.stateDir, 'credential'), 'utf8');
    const { token } = JSON.parse(text) as { token: string };
    const answer = await fetch(`${url}/api/v1/whoami`, { headers: { authorization: `Bearer ${token}` } });
    return answer.status;
  };
  const live = async (pool = hq.pool, storeId = store.id): Promise<{ kid: string; state: string }[]> =>
    (
      await pool.query<{ kid: string; state: string }>(
        `select t.kid, t.state from possync.tokens t
          where t.kind = 'credential' and t.store_id = $1::integer and t.state in ('pending', 'active', 'retiring')
            and (t.expires_at is null or t.expires_at > now())`,
        [storeId],
      )
    ).rows;
  /** Run again by the same command, it ends with one secret that is on disk and at HQ, and with nothing else. */
  const converges = async (
    what: string,
    more: Record<string, string> = {},
    pool = hq.pool,
  ): Promise<void> => {
    const { code, stdout, stderr } = await possync(['token', 'rotate', '--revoke-old-now', '--json'], {
      env: env(more),
    });
    assert.equal(code, 0, `${what}: ${stdout}${stderr}`);
    const credential = await readCredential(store.stateDir);
    assert.deepEqual(await live(pool), [{ kid: credential?.kid, state: 'active' }], what);
    assert.equal(credential?.rotation, undefined, what);
    const files = (await readdir(store.stateDir)).filter((name) => name.startsWith('credential'));
    assert.deepEqual(files, ['credential'], what);
  };
  const downs = (): number => hq.log.lines.filter(({ event }) => event === 'link.down').length;

  const trace = async (): Promise<string[]> => {
    const file = join(dir, 'trace');
    const { code, stdout, stderr } = await (await rotateIn(watched({ DIE_TRACE: file }))).ended(ENDED_MS);
    assert.equal(code, 0, stdout + stderr);
    const steps = (await readFile(file, 'utf8')).trimEnd().split('\n');
    await rm(file);
    return steps;
  };

  it('by kill -9 of the command at each of its steps: never locked out, one secret in the end, light never red', async () => {
    const steps = await trace();
    assert.ok(steps.length >= STEPS_AT_LEAST, `only ${steps.length} steps: ${steps.join(', ')}`);
    for (const step of wanted(steps)) {
      for (let run = 0; run < RUNS; run += 1) {
        const { signal, stdout, stderr } = await (await rotateIn(watched({ DIE_AT: step }))).ended(ENDED_MS);
        assert.equal(signal, 'SIGKILL', `${step}: ${stdout}${stderr}`);
        assert.equal(await accepted(), 200, `locked out at: ${step}`);
        await converges(step);
        tried(`store killed: ${step}`);
      }
    }
    assert.equal(downs(), 0, 'the light never turned red');
    assert.equal((await store.link()).indicator, 'green');
  });

  it('by a disk that turns read-only at each of its steps', async () => {
    const steps = (await trace()).filter((step) => !step.startsWith('unlink credential.lock'));
    for (const step of wanted(steps)) {
      for (let run = 0; run < RUNS; run += 1) {
        const { code, stdout, stderr } = await (
          await rotateIn(watched({ READ_ONLY_FROM: step }))
        ).ended(ENDED_MS);
        assert.ok(code === 73 || code === 0, `${step}: ${code} ${stdout}${stderr}`);
        assert.equal(await accepted(), 200, `locked out at: ${step}`);
        await converges(step);
        tried(`disk read-only: ${step}`);
      }
    }
    assert.equal(downs(), 0, 'the light never turned red');
  });

  it('by answers of HQ that are lost after HQ has done its part', async () => {
    for (const [what, head] of [
      ['whoami', /GET \/api\/v1\/whoami/],
      ['register', /POST \/api\/v1\/tokens\/rotations /],
      ['confirm', /POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/confirm/],
      ['finish', /POST \/api\/v1\/tokens\/rotations\/[0-9a-f-]+\/finish/],
    ] as const) {
      for (let run = 0; run < RUNS; run += 1) {
        proxy.dropNextAnswer(head);
        const { code, stderr } = await possync(['token', 'rotate', '--revoke-old-now'], {
          env: env({ SYNC_HQ_URL: `http://127.0.0.1:${proxy.port}` }),
        });
        assert.equal(code, 69, `${what}: ${stderr}`);
        assert.equal(await accepted(), 200, what);
        await converges(what);
        tried(`answer lost: ${what}`);
      }
    }
    assert.equal(downs(), 0, 'the light never turned red');
  });

  it('by another one at the same time: one rotates, the other says so or comes after it', async () => {
    for (let run = 0; run < Math.max(2, RUNS); run += 1) {
      const both = await Promise.all([rotateIn(env()), rotateIn(env())]);
      const ended = await Promise.all(both.map((child) => child.ended(ENDED_MS)));
      const codes = ended.map(({ code }) => code).sort();
      assert.ok(codes[0] === 0 && (codes[1] === 0 || codes[1] === 75), JSON.stringify(ended));
      await converges('two at once');
      tried(`two at once: ${codes.join(' and ')}`);
    }
    assert.equal(downs(), 0, 'the light never turned red');
  });

  it('negative control: the old one ended before the new one is saved, and the same kill locks the store out', async () => {
    const current = await readCredential(store.stateDir);
    assert.ok(current !== undefined);
    const kid = newKid();
    const secret = newSecret(kid);
    const as = (credential: typeof current.token): HqClient =>
      new HqClient({ url: hq.running.url, credential, software: 'test' });
    const id = crypto.randomUUID();
    await as(current.token).rotate({
      id,
      kid,
      hash: hashSecret(secret).toString('hex'),
      expiresInMs: null,
      graceMs: 0,
      replace: false,
    });
    const fresh = as(formatCredential({ kid, secret }));
    await fresh.rotated(id, 'confirm');
    await fresh.rotated(id, 'finish');
    // Killed here: what is on disk is the old one.
    assert.equal(await accepted(), 401);
    const { code } = await possync(['token', 'rotate'], { env: env() });
    assert.equal(code, 77);
    await store.enrol(hq);
    await store.untilLight('green');
  });

  it('negative control: HQ told before the secret is on disk, and the same kill leaves what no rerun can finish', async () => {
    const current = await readCredential(store.stateDir);
    assert.ok(current !== undefined);
    const kid = newKid();
    await new HqClient({ url: hq.running.url, credential: current.token, software: 'test' }).rotate({
      id: crypto.randomUUID(),
      kid,
      hash: hashSecret(newSecret(kid)).toString('hex'),
      expiresInMs: null,
      graceMs: 0,
      replace: false,
    });
    await assert.rejects(converges('killed before saving'), /PS-TOKEN-ROTATION/);
    const forced = await possync(['token', 'rotate', '--force', '--revoke-old-now'], { env: env() });
    assert.equal(forced.code, 0, forced.stderr);
  });
});

describe('a rotation whose HQ is killed', function () {
  this.timeout(120_000 + RUNS * 120_000);

  it('by kill -9 of HQ at each step of its part: never locked out, one secret in the end', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'possync-kill-hq-'));
    const dieFile = join(dir, 'die');
    const traceFile = join(dir, 'trace');
    const hqData = await hqDatabase('kill_hq');
    const storeData = await storeDatabase('kill_hq_store');
    const stateDir = join(dir, 'state');
    const pool = createPool({ url: hqData.url, applicationName: 'possync test', max: 2 });
    const atHq = { DATABASE_URL: hqData.url, LOG_DIR: join(dir, 'logs') };
    const inStore = { DATABASE_URL: storeData.url, POSSYNC_STATE_DIR: stateDir };
    let port = 0;
    let server: TestProcess | undefined;
    const serve = async (): Promise<void> => {
      server = await startPossync(['hq', 'serve', '--port', String(port), '--metrics-listen', 'off'], {
        env: { ...atHq, NODE_OPTIONS: `--import ${DIE_AT}`, DIE_FILE: dieFile, DIE_TRACE: traceFile },
      });
      const ready = JSON.parse(await server.line(/"ready"/)) as { url: string };
      port = Number(new URL(ready.url).port);
    };
    const rotate = (): ReturnType<typeof possync> =>
      possync(['token', 'rotate', '--revoke-old-now'], { env: inStore });
    try {
      await serve();
      const issued = join(dir, 'token');
      const url = `http://127.0.0.1:${port}`;
      for (const args of [
        ['stores', 'add', 'KILL-HQ', '--name', 'Elm Street', '--time-zone', 'UTC'],
        ['token', 'issue', 'KILL-HQ', '--hq-url', url, '--out', issued],
      ])
        assert.equal((await possync(args, { env: atHq })).code, 0);
      const init = await possync(['store', 'init', '--token-file', issued], { env: inStore });
      assert.equal(init.code, 0, init.stderr);
      await writeFile(traceFile, '');
      const traced = await rotate();
      assert.equal(traced.code, 0, traced.stderr);
      const steps = [
        ...new Set(
          (await readFile(traceFile, 'utf8'))
            .trimEnd()
            .split('\n')
            .map((line) => line.replace(/ #\d+$/, '')),
        ),
      ];
      assert.ok(steps.length >= 8, steps.join(', '));
      let runs = 0;
      for (const step of wanted(steps)) {
        for (let run = 0; run < RUNS; run += 1) {
          await writeFile(dieFile, step);
          const lost = await rotate();
          assert.equal(lost.code, 69, `${step}: ${lost.stdout}${lost.stderr}`);
          const ended = await server?.ended(ENDED_MS);
          assert.equal(ended?.signal, 'SIGKILL', step);
          await rm(dieFile);
          await serve();
          const again = await rotate();
          assert.equal(again.code, 0, `${step}: ${again.stderr}`);
          const kid = (await readCredential(stateDir))?.kid;
          const { rows } = await pool.query<{ kid: string; state: string }>(
            `select t.kid, t.state from possync.tokens t
              where t.kind = 'credential' and t.state in ('pending', 'active', 'retiring')`,
          );
          assert.deepEqual(rows, [{ kid, state: 'active' }], step);
          assert.deepEqual(
            (await readdir(stateDir)).filter((name) => name.startsWith('credential')),
            ['credential'],
            step,
          );
          runs += 1;
        }
      }
      if (RUNS > 1) console.log(`HQ killed at ${steps.length} steps, ${runs} times: ${steps.join(' · ')}`);
      await until(() => server?.running === true, { what: 'HQ still runs' });
    } finally {
      await server?.stop();
      await pool.end();
      await hqData.drop();
      await storeData.drop();
      await rm(dir, { recursive: true, force: true });
    }
  });
});
