/**
 * The store's credential on disk: `credential` in the state directory, mode 0600, one JSON document.
 *
 *   credential.next   the secret made here, saved before HQ hears of it; a rerun finds it and uses it again
 *   credential        in force; replaced by one rename, so that a reader sees the old one or the new one, never half
 */
import { chmod, mkdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { PossyncError } from '../core/errors.ts';
import { readSecretFile, syncDirectory, writeSecretFile } from '../core/secret-file.ts';
import { formatCredential, newKid, newSecret, parseCredential, Secret } from '../core/secret.ts';

export interface StoreCredential {
  /** The whole `pst_…` text. */
  readonly token: Secret;
  readonly kid: string;
  readonly hqUrl: string;
  readonly hqId: string;
  readonly storeId: number;
  readonly code: string;
  readonly name: string;
  /** kid of the enrolment token that it was made with: tells a rerun from a new enrolment. */
  readonly enrolledWith: string | null;
  readonly caFile?: string;
  readonly allowPlaintext?: boolean;
}

/** A secret that HQ may or may not have heard of. */
export interface PendingCredential {
  readonly token: Secret;
  readonly kid: string;
  /** kid of the enrolment token that it is for. */
  readonly enrolledWith: string;
}

const fileSchema = z.object({
  token: z.string(),
  hq_url: z.string(),
  hq_id: z.uuid(),
  store_id: z.int().positive(),
  code: z.string(),
  name: z.string(),
  enrolled_with: z.string().nullable(),
  ca_file: z.string().optional(),
  allow_plaintext: z.boolean().optional(),
});

const pendingSchema = z.object({ token: z.string(), enrolled_with: z.string() });

export function credentialPath(stateDir: string): string {
  return join(stateDir, 'credential');
}

/** undefined = not enrolled. Throws PS-FILE-MODE for a file that others may read, PS-TOKEN-GARBLED for a damaged one. */
export async function readCredential(stateDir: string): Promise<StoreCredential | undefined> {
  const path = credentialPath(stateDir);
  const text = await readSecretFile(path);
  if (text === undefined) return undefined;
  const file = parseFile(fileSchema, text, path);
  const { kid } = parseCredential(file.token);
  return {
    token: new Secret(file.token, `kid:${kid}`),
    kid,
    hqUrl: file.hq_url,
    hqId: file.hq_id,
    storeId: file.store_id,
    code: file.code,
    name: file.name,
    enrolledWith: file.enrolled_with,
    ...(file.ca_file === undefined ? {} : { caFile: file.ca_file }),
    ...(file.allow_plaintext === undefined ? {} : { allowPlaintext: file.allow_plaintext }),
  };
}

export async function saveCredential(stateDir: string, credential: StoreCredential): Promise<void> {
  await makeStateDir(stateDir);
  const { token, hqUrl, hqId, storeId, code, name, enrolledWith, caFile, allowPlaintext } = credential;
  const file: z.infer<typeof fileSchema> = {
    token: token.reveal(),
    hq_url: hqUrl,
    hq_id: hqId,
    store_id: storeId,
    code,
    name,
    enrolled_with: enrolledWith,
    ...(caFile === undefined ? {} : { ca_file: caFile }),
    ...(allowPlaintext === undefined ? {} : { allow_plaintext: allowPlaintext }),
  };
  await writeSecretFile(credentialPath(stateDir), `${JSON.stringify(file, null, 2)}\n`);
}

/**
 * The secret to enrol with: the one that an earlier try with the same token has saved, else a new one. It is on disk
 * when this returns: HQ must never know a hash whose secret is lost.
 */
export async function preparePending(stateDir: string, enrolmentKid: string): Promise<PendingCredential> {
  await makeStateDir(stateDir);
  const path = pendingPath(stateDir);
  const text = await readSecretFile(path);
  if (text !== undefined) {
    const file = parseFile(pendingSchema, text, path);
    const { kid } = parseCredential(file.token);
    // Of another token: that enrolment was given up, or is finished and the file was left by a crash.
    if (file.enrolled_with === enrolmentKid)
      return { token: new Secret(file.token, `kid:${kid}`), kid, enrolledWith: enrolmentKid };
  }
  const kid = newKid();
  const token = formatCredential({ kid, secret: newSecret(kid) });
  await writeSecretFile(path, `${JSON.stringify({ token: token.reveal(), enrolled_with: enrolmentKid })}\n`);
  return { token, kid, enrolledWith: enrolmentKid };
}

/** Ends an enrolment: the credential is in force, nothing is pending. */
export async function finishPending(stateDir: string): Promise<void> {
  await removeIfThere(pendingPath(stateDir));
  await syncDirectory(stateDir);
}

function pendingPath(stateDir: string): string {
  return `${credentialPath(stateDir)}.next`;
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
}

async function makeStateDir(stateDir: string): Promise<void> {
  try {
    const made = await mkdir(stateDir, { recursive: true, mode: 0o700 });
    if (made !== undefined) {
      await chmod(stateDir, 0o700);
      await syncDirectory(dirname(stateDir));
    }
  } catch (error) {
    throw new PossyncError('PS-FILE-WRITE', `cannot create the state directory ${stateDir}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}

function parseFile<T>(schema: z.ZodType<T>, text: string, path: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new PossyncError('PS-TOKEN-GARBLED', `${path} is damaged`, {
      why: 'it is not a credential that possync wrote',
      hint: 'bring it back from a backup, or get a fresh enrolment token and run: possync store init --token-file FILE',
      cause: error,
    });
  }
}
