/** Diagnose against the real HQ: what it answers by itself must give no verdict, token or not. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../src/core/log.ts';
import { formatCredential, newSecret } from '../../src/core/secret.ts';
import { diagnose, type Report } from '../../src/diagnose/diagnose.ts';
import type { Subject } from '../../src/diagnose/subject.ts';
import type { RunningHq } from '../../src/hq/options.ts';
import { startHq } from '../../src/hq/serve.ts';
import { hqDatabase, type TestDatabase } from '../support/postgres.ts';

describe('diagnosis of a real HQ', () => {
  let database: TestDatabase;
  let hq: RunningHq;
  let folder: string;
  before(async () => {
    database = await hqDatabase('diagnose_real');
    hq = await startHq({ databaseUrl: database.url, port: 0, log: silentLog });
    folder = await mkdtemp(join(tmpdir(), 'possync-real-'));
  });
  after(async () => {
    await hq.stop();
    await database.drop();
    await rm(folder, { recursive: true });
  });

  async function look(more: Partial<Subject>, only: readonly string[] = []): Promise<Report> {
    return diagnose({
      only,
      patience: { holdMs: 500 },
      subject: {
        hqUrl: hq.url,
        hqUrlSource: '--hq',
        bare: true,
        config: { file: undefined, faults: [], given: [], overridden: [], warnings: [] },
        stateDir: folder,
        logDir: folder,
        socketPath: join(folder, 'store.sock'),
        databaseUrl: undefined,
        caFile: undefined,
        proxy: undefined,
        env: {},
        credentialFile: join(folder, 'credential'),
        credential: undefined,
        store: undefined,
        hqId: undefined,
        ...more,
      },
    });
  }

  it('finds nothing on the way, before a store is installed', async () => {
    const report = await look({});
    const told = report.checks
      .filter(({ layer }) => layer !== 'host')
      .filter(({ status }) => status !== 'pass');
    assert.deepEqual(told, []);
    for (const id of [
      'http.identity',
      'http.health',
      'ws.upgrade',
      'ws.echo',
      'ws.hold',
      'ws.large',
      'path.latency',
    ])
      assert.equal(report.checks.find((check) => check.id === id)?.status, 'pass', id);
  });

  it('finds a token that HQ does not know', async () => {
    const token = formatCredential({ kid: 'ABCDEFGH', secret: newSecret('ABCDEFGH') });
    await writeFile(join(folder, 'credential'), token.reveal(), { mode: 0o600 });
    const report = await look({ bare: false, credential: { kid: 'ABCDEFGH', token } }, ['token']);
    assert.equal(report.verdict.code, 'PS-TOKEN-UNKNOWN');
  });
});
