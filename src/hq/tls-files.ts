/** HQ's certificate and key: read together, checked together, and read again when either file changes. */
import { X509Certificate } from 'node:crypto';
import { readFileSync, watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { createSecureContext } from 'node:tls';
import { PossyncError } from '../core/errors.ts';

export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly subject: string;
}

/** Throws PS-TLS-FILES when a file cannot be read or the two do not belong together. */
export function readTlsFiles({ certFile, keyFile }: TlsFiles): TlsMaterial {
  const cert = readFile(certFile);
  const key = readFile(keyFile);
  try {
    createSecureContext({ cert, key });
    const leaf = new X509Certificate(cert);
    return {
      cert,
      key,
      notBefore: new Date(leaf.validFrom),
      notAfter: new Date(leaf.validTo),
      subject: leaf.subjectAltName ?? leaf.subject,
    };
  } catch (error) {
    throw new PossyncError('PS-TLS-FILES', 'certificate and key cannot be used together', {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}

function readFile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new PossyncError('PS-TLS-FILES', `cannot read ${path}`, { cause: error });
  }
}

/**
 * Calls `changed` when one of the files may have changed. The folders are watched, not the files: certbot and others
 * replace a file or a link, and a watch on the old inode would see nothing.
 */
export function watchTlsFiles(files: TlsFiles, changed: () => void): () => void {
  const folders = new Set([dirname(files.certFile), dirname(files.keyFile)]);
  const watchers: FSWatcher[] = [];
  for (const folder of folders) {
    try {
      const watcher = watch(folder, { persistent: false }, changed);
      watcher.on('error', () => undefined); // SIGHUP still works
      watchers.push(watcher);
    } catch {
      // No inotify left or no such right: SIGHUP still works.
    }
  }
  return () => {
    for (const watcher of watchers) watcher.close();
  };
}
