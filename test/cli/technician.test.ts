/** What misled somebody who followed the screen and nothing else: each of these words once sent him the wrong way. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeFailure } from '../../src/store/link/failure.ts';
import { CLOSE } from '../../src/protocol/http.ts';
import { Authority, type ServerCertificate } from '../support/certificates.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync, type CliResult } from '../support/cli.ts';
import { until } from '../support/until.ts';

describe('what a technician reads', function () {
  this.timeout(120_000);
  let dir: string;
  let authority: Authority;
  let files: ServerCertificate;
  let hq: TestHq;
  let store: TestStore;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'possync-technician-'));
    authority = await Authority.make();
    files = await authority.issue();
    hq = await TestHq.open('technician', { tls: files, host: '127.0.0.1' });
    store = await TestStore.open(hq, 'TECH-1', { caFile: authority.caFile });
    await store.untilLight('green', 60_000);
  });
  after(async () => {
    await store.close();
    await hq.close();
    await authority.remove();
    await rm(dir, { recursive: true, force: true });
  });

  const here = (words: string, more: Record<string, string> = {}, stdin = ''): Promise<CliResult> =>
    possync(words.split(' '), {
      env: { DATABASE_URL: store.database.url, POSSYNC_STATE_DIR: store.stateDir, LOG_DIR: dir, ...more },
      stdin,
    });
  const freshToken = async (): Promise<string> => {
    const words = ['token', 'issue', 'TECH-1', '--hq-url', hq.running.url];
    return (await possync(words, { env: { DATABASE_URL: hq.database.url } })).stdout;
  };
  const untilReads = async (words: RegExp): Promise<string> => {
    let text = '';
    await until(
      async () => {
        text = (await here('status')).stdout;
        return words.test(text);
      },
      { what: `status says ${words}`, timeoutMs: 60_000 },
    );
    return text;
  };

  it('a store that cannot enrol is told the whole command: `possync diagnose` alone knows no HQ yet', async () => {
    const nowhere = { POSSYNC_STATE_DIR: join(dir, 'state') };
    const { code, stderr } = await here('store init --token-file -', nowhere, await freshToken());
    assert.equal(code, 69);
    assert.match(stderr, /code: {2}PS-TLS-UNTRUSTED/);
    const command = /possync (diagnose --hq \S+)/.exec(stderr)?.[1];
    assert.ok(command, stderr);
    const looked = await here(`${command} --tls-ca-file ${authority.caFile} --quick`, nowhere);
    assert.equal(looked.code, 0, looked.stdout);
  });

  it('some checks that are well do not say that everything is', async () => {
    const { stdout } = await here('diagnose --local tcp');
    assert.match(stdout, /^VERDICT {3}What you asked for is well\./m);
    const network = `diagnose --hq ${hq.running.url} --tls-ca-file ${authority.caFile} --quick`;
    assert.match((await here(network)).stdout, /^VERDICT {3}Everything works\./m);
  });

  it('a revoked token has no days left, and a fresh one needs no authority to be named again', async () => {
    await possync(['token', 'revoke', 'TECH-1'], { env: { DATABASE_URL: hq.database.url, LOG_DIR: dir } });
    const text = await untilReads(/PS-TOKEN-REVOKED/);
    assert.match(text, /^ {2}Token +kid \S+ {3}refused by HQ$/m);
    const { code, stderr } = await here('store init --token-file -', {}, await freshToken());
    assert.equal(code, 0, stderr);
    assert.match(await untilReads(/^● CONNECTED/), /^ {2}Token +kid \S+ {3}\d+d left/m);
  });

  it('a certificate that has expired is a fault before HQ starts with it, and is not shown as good', async () => {
    await authority.issue({ days: -1, into: files });
    const { tlsCertFile, tlsKeyFile } = { tlsCertFile: files.certFile, tlsKeyFile: files.keyFile };
    const { code, stdout } = await possync(
      ['hq', 'serve', '--check', '--tls-cert-file', tlsCertFile, '--tls-key-file', tlsKeyFile],
      { env: { DATABASE_URL: hq.database.url, LOG_DIR: dir } },
    );
    assert.equal(code, 78);
    assert.match(stdout, /has expired \(PS-TLS-EXPIRED\)/);
    hq.running.reload();
    assert.ok(hq.log.lines.some(({ level, code: named }) => level === 'warn' && named === 'PS-TLS-EXPIRED'));
    store.running.reconnect();
    const text = await untilReads(/PS-TLS-EXPIRED/);
    assert.match(text, /^ {2}TLS +refused; the last good certificate ends \d{4}-\d\d-\d\d$/m);
  });

  it('a wait that HQ asks for is no riddle in JSON', () => {
    const { reason, floorMs } = closeFailure(CLOSE.restarting, '{"retry_ms":1500}', true);
    assert.deepEqual([reason.message, floorMs], ['HQ restarts: closing code 1012', 1500]);
    assert.match(
      closeFailure(CLOSE.tokenRefused, 'revoked', true).reason.message,
      /closing code 4401, revoked$/,
    );
  });
});
