/** The link over TLS with a certificate authority of its own, and a certificate that changes while stores are connected. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { connect } from 'node:tls';
import { PossyncError } from '../../src/core/errors.ts';
import { HqClient } from '../../src/store/link/hq-client.ts';
import { Authority, type ServerCertificate } from '../support/certificates.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { addRegister, openSession, sell } from '../support/pos.ts';
import { until } from '../support/until.ts';

describe('the link over TLS', function () {
  this.timeout(60_000);
  let authority: Authority;
  let files: ServerCertificate;
  let hq: TestHq;

  before(async () => {
    authority = await Authority.make();
    files = await authority.issue({ subject: 'first' });
    hq = await TestHq.open('tls', { tls: files, host: '127.0.0.1' });
  });
  after(async () => {
    await hq.close();
    await authority.remove();
  });

  const subject = async (): Promise<string | undefined> =>
    await new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: hq.port, rejectUnauthorized: false }, () => {
        const { CN } = socket.getPeerCertificate().subject;
        resolve(Array.isArray(CN) ? CN[0] : CN);
        socket.end();
      });
      socket.on('error', reject);
    });

  it('enrols, connects and syncs where the store trusts the authority of HQ', async () => {
    const store = await TestStore.open(hq, 'TLS-1', { caFile: authority.caFile });
    await store.untilLight('green');
    const till = await store.database.connect();
    await sell(till, await openSession(till, await addRegister(till, store.id), store.id), {
      storeId: store.id,
    });
    await until(async () => (await hq.pool.query('select from public.sales')).rowCount === 1, {
      what: 'the sale is at HQ',
    });
    await store.close();
  });

  it('a new certificate is used for new connections, and no open socket is dropped', async () => {
    const store = await TestStore.open(hq, 'TLS-2', { caFile: authority.caFile });
    await store.untilLight('green');
    assert.equal(await subject(), 'first');
    await authority.issue({ subject: 'second', into: files });
    await until(async () => (await subject()) === 'second', { what: 'the changed files are in use' });
    await authority.issue({ subject: 'third', into: files });
    hq.running.reload();
    assert.equal(await subject(), 'third');
    assert.equal((await store.link()).state, 'online');
    assert.equal(store.log.lines.filter((line) => line.event === 'link.down').length, 0);
    await store.close();
  });

  it('a broken pair leaves the old certificate in use', async () => {
    await writeFile(files.keyFile, 'not a key');
    hq.running.reload();
    assert.equal(await subject(), 'third');
    assert.ok(hq.log.lines.some((line) => line.level === 'error' && line.message.includes('old one stays')));
    await authority.issue({ subject: 'fourth', into: files });
    hq.running.reload();
    assert.equal(await subject(), 'fourth');
  });

  it('says why where the authority is not trusted, and where the other side speaks no TLS', async () => {
    const codeOf = async (url: string): Promise<string> => {
      const client = new HqClient({ url, software: 'test' });
      try {
        await client.whoami();
        return 'nothing was thrown';
      } catch (error) {
        assert.ok(error instanceof PossyncError);
        return error.code;
      } finally {
        client.close();
      }
    };
    assert.equal(await codeOf(hq.running.url), 'PS-TLS-UNTRUSTED');
    const plain = await TestHq.open('plain');
    assert.equal(await codeOf(plain.running.url.replace('http:', 'https:')), 'PS-TLS-PLAINTEXT');
    await plain.close();
  });

  it('does not start with a certificate and a key that do not belong together', async () => {
    const other = await authority.issue({ subject: 'other' });
    await assert.rejects(
      TestHq.open('mismatch', { tls: { certFile: files.certFile, keyFile: other.keyFile } }),
      (error: unknown) => error instanceof PossyncError && error.code === 'PS-TLS-FILES',
    );
  });
});
