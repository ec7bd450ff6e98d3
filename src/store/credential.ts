/**
 * The store's credential on disk: `credential` in the state directory, mode 0600, one JSON document.
 *
 *   credential.next   the secret made here, saved before HQ hears of it; a rerun finds it and uses it again
 *   credential        in force; replaced by one rename, so that a reader sees the old one or the new one, never half
 *   credential.prev   the one before, while HQ still takes it
 */
import { chmod, mkdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as z from 'zod';
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
  /** That enrolment made this the successor of a lost server. */
  readonly replaced?: boolean;
  readonly caFile?: string;
  readonly allowPlaintext?: boolean;
  /** When HQ ends it, as HQ said last; null = never. */
  readonly expiresAt?: string | null;
  /** When it was made, by the clock of this machine. */
  readonly issuedAt?: string;
  /** The rotation that made it, until that is finished. */
  readonly rotation?: RotationNote;
  /** The one that it replaced: in credential.prev until then. */
  readonly previous?: { readonly kid: string; readonly until: string | null };
}

/** What a rerun must know to go on with a rotation. */
export type RotationNote = z.infer<typeof rotationSchema>;

/** A secret that HQ may or may not have heard of. */
export interface PendingCredential {
  readonly token: Secret;
  readonly kid: string;
  /** kid of the enrolment token that it is for. */
  readonly enrolledWith: string;
  /** This enrolment takes over from a lost server. */
  readonly replace: boolean;
}

const rotationSchema = z.object({
  id: z.uuid(),
  old_kid: z.string(),
  grace_ms: z.int().nonnegative(),
  expires_in_ms: z.int().positive().nullable(),
  revoke_old_now: z.boolean(),
});

const fileSchema = z.object({
  token: z.string(),
  hq_url: z.string(),
  hq_id: z.uuid(),
  store_id: z.int().positive(),
  code: z.string(),
  name: z.string(),
  enrolled_with: z.string().nullable(),
  replaced: z.boolean().optional(),
  ca_file: z.string().optional(),
  allow_plaintext: z.boolean().optional(),
  expires_at: z.string().nullish(),
  issued_at: z.string().optional(),
  rotation: rotationSchema.optional(),
  previous: z.object({ kid: z.string(), until: z.string().nullable() }).optional(),
});

/** An enrolment's; that of a rotation is a whole credential, with its `rotation`. */
const pendingSchema = z.object({
  token: z.string(),
  enrolled_with: z.string().nullable(),
  replace: z.boolean().optional(),
  rotation: rotationSchema.optional(),
});

export function credentialPath(stateDir: string): string {
  return join(stateDir, 'credential');
}

/** undefined = not enrolled. Throws PS-FILE-MODE for a file that others may read, PS-TOKEN-GARBLED for a damaged one. */
export async function readCredential(stateDir: string): Promise<StoreCredential | undefined> {
  return await readCredentialFile(credentialPath(stateDir));
}

async function readCredentialFile(path: string): Promise<StoreCredential | undefined> {
  const text = await readSecretFile(path);
  return text === undefined ? undefined : fromFile(parseFile(fileSchema, text, path));
}

function fromFile(file: z.infer<typeof fileSchema>): StoreCredential {
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
    ...(file.replaced === undefined ? {} : { replaced: file.replaced }),
    ...(file.ca_file === undefined ? {} : { caFile: file.ca_file }),
    ...(file.allow_plaintext === undefined ? {} : { allowPlaintext: file.allow_plaintext }),
    ...(file.expires_at === undefined ? {} : { expiresAt: file.expires_at }),
    ...(file.issued_at === undefined ? {} : { issuedAt: file.issued_at }),
    ...(file.rotation === undefined ? {} : { rotation: file.rotation }),
    ...(file.previous === undefined ? {} : { previous: file.previous }),
  };
}

export async function saveCredential(stateDir: string, credential: StoreCredential): Promise<void> {
  await makeStateDir(stateDir);
  await writeSecretFile(credentialPath(stateDir), textOf(credential));
}

function textOf(credential: StoreCredential): string {
  const { token, hqUrl, hqId, storeId, code, name, enrolledWith } = credential;
  const { replaced, caFile, allowPlaintext, expiresAt, issuedAt, rotation, previous } = credential;
  const file: z.infer<typeof fileSchema> = {
    token: token.reveal(),
    hq_url: hqUrl,
    hq_id: hqId,
    store_id: storeId,
    code,
    name,
    enrolled_with: enrolledWith,
    ...(replaced === undefined ? {} : { replaced }),
    ...(caFile === undefined ? {} : { ca_file: caFile }),
    ...(allowPlaintext === undefined ? {} : { allow_plaintext: allowPlaintext }),
    ...(expiresAt === undefined ? {} : { expires_at: expiresAt }),
    ...(issuedAt === undefined ? {} : { issued_at: issuedAt }),
    ...(rotation === undefined ? {} : { rotation }),
    ...(previous === undefined ? {} : { previous }),
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

/** Whether only the token differs: then an open connection can go on under the other one. */
export function sameExceptToken(a: StoreCredential, b: StoreCredential): boolean {
  return (
    a.hqUrl === b.hqUrl &&
    a.hqId === b.hqId &&
    a.storeId === b.storeId &&
    a.caFile === b.caFile &&
    a.allowPlaintext === b.allowPlaintext &&
    a.enrolledWith === b.enrolledWith
  );
}

/** The credential of a rotation that was begun and not switched to; undefined: none, or one that is out of date. */
export async function readNext(
  stateDir: string,
  current: StoreCredential,
): Promise<StoreCredential | undefined> {
  const path = pendingPath(stateDir);
  const text = await readSecretFile(path);
  if (text === undefined) return undefined;
  // What an enrolment left there is no credential yet.
  if (parseFile(pendingSchema, text, path).rotation === undefined) return undefined;
  const next = fromFile(parseFile(fileSchema, text, path));
  return next.rotation?.old_kid === current.kid ? next : undefined;
}

/** On disk when this returns: HQ must never know a hash whose secret is lost. */
export async function saveNext(stateDir: string, next: StoreCredential): Promise<void> {
  await writeSecretFile(pendingPath(stateDir), textOf(next));
}

/** credential.next is the credential: at every moment one of the two is there whole, and HQ takes both. */
export async function switchToNext(stateDir: string, current: StoreCredential): Promise<void> {
  await writeSecretFile(previousPath(stateDir), textOf(current));
  await changing(credentialPath(stateDir), async () => {
    await rename(pendingPath(stateDir), credentialPath(stateDir));
    await syncDirectory(stateDir);
  });
}

/** Removes the credential before this one once HQ no longer takes it. */
export async function tidyPrevious(
  stateDir: string,
  credential: StoreCredential,
  nowMs: number,
): Promise<void> {
  const { previous, rotation } = credential;
  if (rotation !== undefined) return;
  if (previous?.until != null && Date.parse(previous.until) > nowMs) return;
  await removeIfThere(previousPath(stateDir));
}

/** The secret of an enrolment with that token which was begun here and did not reach its end. */
export async function readPending(
  stateDir: string,
  enrolmentKid: string,
): Promise<PendingCredential | undefined> {
  const path = pendingPath(stateDir);
  const text = await readSecretFile(path);
  if (text === undefined) return undefined;
  const file = parseFile(pendingSchema, text, path);
  // Of another token: that enrolment was given up, or is finished and the file was left by a crash.
  if (file.enrolled_with !== enrolmentKid || file.rotation !== undefined) return undefined;
  const { kid } = parseCredential(file.token);
  return {
    token: new Secret(file.token, `kid:${kid}`),
    kid,
    enrolledWith: enrolmentKid,
    replace: file.replace === true,
  };
}

/**
 * The secret to enrol with: the one that an earlier try with the same token has saved, else a new one. It is on disk
 * when this returns: HQ must never know a hash whose secret is lost. `known` is the secret that this token has brought
 * already, before anybody said `replace`.
 */
export async function preparePending(
  stateDir: string,
  enrolmentKid: string,
  {
    replace = false,
    known,
  }: { replace?: boolean; known?: Pick<PendingCredential, 'kid' | 'token'> | undefined } = {},
): Promise<PendingCredential> {
  await makeStateDir(stateDir);
  const begun = await readPending(stateDir, enrolmentKid);
  if (begun !== undefined && (begun.replace || !replace)) return begun;
  const kid = begun?.kid ?? known?.kid ?? newKid();
  const token = begun?.token ?? known?.token ?? formatCredential({ kid, secret: newSecret(kid) });
  await writeSecretFile(
    pendingPath(stateDir),
    `${JSON.stringify({ token: token.reveal(), enrolled_with: enrolmentKid, replace })}\n`,
  );
  return { token, kid, enrolledWith: enrolmentKid, replace };
}

/** Ends an enrolment: the credential is in force, nothing is pending. */
export async function finishPending(stateDir: string): Promise<void> {
  await removeIfThere(pendingPath(stateDir));
  await syncDirectory(stateDir);
}

function pendingPath(stateDir: string): string {
  return `${credentialPath(stateDir)}.next`;
}

function previousPath(stateDir: string): string {
  return `${credentialPath(stateDir)}.prev`;
}

async function removeIfThere(path: string): Promise<void> {
  await changing(path, async () => {
    try {
      await unlink(path);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  });
}

/** Throws PS-FILE-WRITE: a disk that turned read-only is no bug of ours. */
async function changing(path: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new PossyncError('PS-FILE-WRITE', `cannot change ${path}`, {
      why: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}

export async function makeStateDir(stateDir: string): Promise<void> {
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
