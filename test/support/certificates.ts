/** A certificate authority and server certificates, made with the openssl command at test time. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface ServerCertificate {
  readonly certFile: string;
  readonly keyFile: string;
}

export class Authority {
  readonly #dir: string;
  readonly caFile: string;
  #count = 0;

  private constructor(dir: string) {
    this.#dir = dir;
    this.caFile = join(dir, 'ca.pem');
  }

  static async make(name = 'Test CA'): Promise<Authority> {
    const authority = new Authority(await mkdtemp(join(tmpdir(), 'possync-ca-')));
    await run('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'],
      ...['-keyout', join(authority.#dir, 'ca.key'), '-out', authority.caFile, '-subj', `/CN=${name}`],
    ]);
    return authority;
  }

  /** For localhost, 127.0.0.1 and `name`, written to `certFile` and `keyFile` if given. */
  async issue({
    days = 10,
    subject = 'hq',
    name = 'localhost',
    into,
  }: {
    days?: number;
    subject?: string;
    name?: string;
    into?: ServerCertificate;
  } = {}): Promise<ServerCertificate> {
    this.#count += 1;
    const base = join(this.#dir, `server-${this.#count}`);
    const files = into ?? { certFile: `${base}.pem`, keyFile: `${base}.key` };
    await run('openssl', [
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-keyout', `${base}.new.key`, '-out', `${base}.csr`, '-subj', `/CN=${subject}`],
    ]);
    await writeFile(`${base}.ext`, `subjectAltName=DNS:localhost,DNS:${name},IP:127.0.0.1\n`);
    await run('openssl', [
      ...['x509', '-req', '-in', `${base}.csr`, '-CA', this.caFile, '-CAkey', join(this.#dir, 'ca.key')],
      ...['-CAcreateserial', '-days', String(days), '-extfile', `${base}.ext`, '-out', `${base}.new.pem`],
    ]);
    await run('cp', [`${base}.new.key`, files.keyFile]);
    await run('cp', [`${base}.new.pem`, files.certFile]);
    return files;
  }

  async remove(): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true });
  }
}
