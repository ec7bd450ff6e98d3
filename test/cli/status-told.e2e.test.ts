/** `possync status` beside a running daemon: its word is enough for its own database, and never shown for another one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DATABASE_HEADER, databaseFingerprint } from '../../src/db/address.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { loadedBy } from '../support/loaded.ts';
import { POSSYNC, runPossync } from '../support/process.ts';

describe('possync status beside a daemon', function () {
  this.timeout(120_000);
  let hq: TestHq;
  let here: TestStore;
  let there: TestStore;

  before(async () => {
    hq = await TestHq.open('told');
    here = await TestStore.open(hq, 'HERE');
    there = await TestStore.open(hq, 'THERE');
    await here.untilLight('green');
    await there.untilLight('green');
  });

  after(async () => {
    await here.close();
    await there.close();
    await hq.close();
  });

  const envOf = (store: TestStore, url = store.database.url): Record<string, string> => ({
    DATABASE_URL: url,
    POSSYNC_STATE_DIR: store.stateDir,
  });

  async function shown(env: Record<string, string>): Promise<[source: string, code: string | undefined]> {
    const { stdout } = await runPossync(['status', '--json'], { env });
    const { source, store } = JSON.parse(stdout) as { source: string; store: { code: string } | null };
    return [source, store?.code];
  }

  /** A folder whose socket hands on what the daemon of `here` says, under another fingerprint or none. */
  async function relay(
    fingerprint: string | undefined,
    work: (stateDir: string) => Promise<void>,
  ): Promise<void> {
    const stateDir = await mkdtemp(join(tmpdir(), 'possync-relay-'));
    const server = http.createServer((_request, response) => {
      http.get({ socketPath: join(here.stateDir, 'store.sock'), path: '/api/v1/status' }, (told) => {
        response.writeHead(200, fingerprint === undefined ? {} : { [DATABASE_HEADER]: fingerprint });
        told.pipe(response);
      });
    });
    server.listen(join(stateDir, 'store.sock'));
    await once(server, 'listening');
    try {
      await work(stateDir);
    } finally {
      server.close();
      server.closeAllConnections();
      await rm(stateDir, { recursive: true });
    }
  }

  it('asks the daemon alone, and loads no driver, where both mean the same database', async () => {
    assert.deepEqual(await shown(envOf(here)), ['daemon', 'HERE']);
    assert.deepEqual(await loadedBy([POSSYNC, 'status'], envOf(here)), []);
    assert.deepEqual(await loadedBy([POSSYNC, 'status', '--wait', 'green'], envOf(here)), []);
  });

  it('compares with the database where the address does not prove it', async () => {
    const url = `${here.database.url}?application_name=somebody`;
    assert.deepEqual(await shown(envOf(here, url)), ['daemon', 'HERE']);
    assert.ok((await loadedBy([POSSYNC, 'status'], envOf(here, url))).includes('pg'));
  });

  it('never shows the store of a socket for the database of another', async () => {
    const mixed = { DATABASE_URL: there.database.url, POSSYNC_STATE_DIR: here.stateDir };
    assert.deepEqual(await shown(mixed), ['database', 'THERE']);
    const { stdout } = await runPossync(['status'], { env: mixed });
    assert.match(stdout, /store THERE/);
    assert.doesNotMatch(stdout, /HERE "Store HERE"/);
    await relay(undefined, async (stateDir) => {
      const env = { DATABASE_URL: there.database.url, POSSYNC_STATE_DIR: stateDir };
      assert.deepEqual(
        await shown(env),
        ['database', 'THERE'],
        'nor that of a daemon that does not say which it reads',
      );
    });
  });

  it('goes by the fingerprint and by nothing else: a socket with a false one is believed', async () => {
    await relay(databaseFingerprint(there.database.url), async (stateDir) => {
      const env = { DATABASE_URL: there.database.url, POSSYNC_STATE_DIR: stateDir };
      assert.deepEqual(await shown(env), ['daemon', 'HERE']);
    });
  });

  it('at HQ asks nobody but its database', async () => {
    const { stdout } = await runPossync(['status', '--json'], {
      env: { DATABASE_URL: hq.database.url, POSSYNC_STATE_DIR: here.stateDir },
    });
    assert.equal((JSON.parse(stdout) as { role: string }).role, 'hq');
  });
});
