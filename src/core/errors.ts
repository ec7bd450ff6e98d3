/**
 * Every failure possync can name: one code, one exit status, one next step.
 *
 * The doc comment of a code is its manual entry. A code is never reused for another meaning: scripts, alerts
 * and runbook pages hang on it.
 */
import { FINDING_CODES } from './finding-codes.ts';
import { LINK_CODES } from './link-codes.ts';

/** Exit statuses of every command (sysexits numbers, because systemd prints their names). */
export const EXIT = {
  ok: 0,
  /** It worked, and the answer is "no": red, a failed check, some refused again. */
  no: 1,
  /** Only with --strict: warnings, no failures. */
  warn: 2,
  /** Only with --format nagios: the checks themselves failed. */
  unknown: 3,
  usage: 64,
  noInput: 66,
  unavailable: 69,
  internal: 70,
  cannotCreate: 73,
  temporary: 75,
  notPermitted: 77,
  config: 78,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/**
 * How a daemon retries after an error: `soon` = a dropped socket or a lost race (under a second),
 * `slow` = the network or a server is away (full backoff), `minutes` = refused until a person acts.
 */
export type Retry = 'soon' | 'slow' | 'minutes' | 'never';

export interface ErrorSpec {
  readonly exit: ExitCode;
  readonly retry: Retry;
  /** What to do next; starts with a verb. */
  readonly hint: string;
}

export const ERRORS = {
  /** A bug in possync: something that cannot happen did. */
  'PS-INTERNAL': {
    exit: 70,
    retry: 'slow',
    hint: 'report this with the output of the same command and --verbose',
  },
  /** Unknown command, flag or value. */
  'PS-USAGE': { exit: 64, retry: 'never', hint: 'see its help: the same command with --help' },
  /** The command exists, but not on this side. */
  'PS-WRONG-SIDE': { exit: 64, retry: 'never', hint: 'run the command on the side that it names' },
  /** Settings are missing or wrong; all faults are listed at once. */
  'PS-CFG-INVALID': { exit: 78, retry: 'never', hint: 'correct the settings named above' },
  /** The file of the chain's own data types is wrong; all faults are listed at once. */
  'PS-CFG-TYPES': { exit: 78, retry: 'never', hint: 'correct the file, then give it again with --types' },
  /** A file that was named cannot be read. */
  'PS-FILE-READ': { exit: 66, retry: 'never', hint: 'check the path and its permissions' },
  /** A file that must be written cannot be. */
  'PS-FILE-WRITE': {
    exit: 73,
    retry: 'never',
    hint: 'free space or correct the permissions, then run the command again',
  },
  /** A file with a secret may be read by others. */
  'PS-FILE-MODE': { exit: 77, retry: 'minutes', hint: 'set its mode to 0600' },
  /** The port to listen on is taken or not allowed. */
  'PS-LISTEN': { exit: 78, retry: 'never', hint: 'stop the other program or set SYNC_LISTEN_PORT' },
  /** Plain HTTP beyond loopback was asked for without the flag that allows it. */
  'PS-CFG-PLAINTEXT': {
    exit: 78,
    retry: 'never',
    hint: 'use TLS, or add --allow-plaintext (SYNC_ALLOW_PLAINTEXT=1) on a trusted network',
  },

  /** PostgreSQL does not answer. */
  'PS-DB-DOWN': { exit: 69, retry: 'slow', hint: 'start PostgreSQL, or correct DATABASE_URL' },
  /** PostgreSQL refuses the user, or the database does not exist. */
  'PS-DB-AUTH': {
    exit: 69,
    retry: 'slow',
    hint: 'correct the user, password or database name in DATABASE_URL',
  },
  /** A statement failed for a reason possync has no better name for. */
  'PS-DB-ERROR': { exit: 69, retry: 'slow', hint: 'read the message of PostgreSQL above' },
  /** The possync user may not do what it must. */
  'PS-DB-PERM': {
    exit: 77,
    retry: 'minutes',
    hint: 'run `possync hq init` or `possync store init` as the owner of the database',
  },
  /** The database has no possync schema yet, or an older one. */
  'PS-DB-MIGRATE': {
    exit: 78,
    retry: 'never',
    hint: 'run `possync hq init` or `possync store init`, or add --migrate',
  },
  /** The database was migrated by a newer possync. */
  'PS-DB-NEWER': { exit: 78, retry: 'never', hint: 'update possync on this machine' },
  /** The database belongs to the other side, or to another store. */
  'PS-DB-ROLE': { exit: 64, retry: 'never', hint: 'point DATABASE_URL at the right database' },
  /** A table is in use by a long transaction, and what has to change it gave way. */
  'PS-DB-LOCKED': {
    exit: 75,
    retry: 'slow',
    hint: 'end the transaction named above, or wait for its end, then run the command again',
  },
  /** The database is read-only (a standby). */
  'PS-DB-READONLY': { exit: 69, retry: 'slow', hint: 'point DATABASE_URL at the primary' },

  /** No store has this code. */
  'PS-STORE-UNKNOWN': { exit: 1, retry: 'never', hint: 'list the stores with `possync stores ls`' },
  /** The code of a new store is taken. */
  'PS-STORE-EXISTS': { exit: 1, retry: 'never', hint: 'choose another code; codes are never reused' },
  /** An empty database enrols as a store of which HQ has sales already. */
  'PS-STORE-HISTORY': {
    exit: 73,
    retry: 'never',
    hint: 'run it again with --replace if this server takes the place of a lost one; else restore its database first',
  },
  /** The store was deactivated at HQ; its queue waits. */
  'PS-STORE-DISABLED': {
    exit: 77,
    retry: 'minutes',
    hint: 'activate it at HQ: possync stores activate CODE',
  },
  /** The store is not enrolled. */
  'PS-NOT-ENROLLED': {
    exit: 66,
    retry: 'never',
    hint: 'get an enrolment token from HQ and run: possync store init --token-file FILE',
  },

  /** The token text is damaged (checksum does not match). */
  'PS-TOKEN-GARBLED': { exit: 66, retry: 'never', hint: 'copy the whole token again' },
  /** HQ does not know the credential. */
  'PS-TOKEN-UNKNOWN': {
    exit: 77,
    retry: 'minutes',
    hint: 'check that hq_url is the right HQ; else enrol again: possync store init --token-file FILE',
  },
  /** The credential was revoked at HQ. */
  'PS-TOKEN-REVOKED': {
    exit: 77,
    retry: 'minutes',
    hint: 'get a fresh enrolment token from HQ and run: possync store init --token-file FILE',
  },
  /** The enrolment token or the credential has expired. */
  'PS-TOKEN-EXPIRED': {
    exit: 77,
    retry: 'minutes',
    hint: 'get a fresh enrolment token from HQ and run: possync store init --token-file FILE',
  },
  /** The enrolment token was spent by another machine. */
  'PS-TOKEN-SPENT': {
    exit: 77,
    retry: 'never',
    hint: 'issue a new one at HQ: possync token issue CODE --hq-url URL',
  },
  /** The credential belongs to another store than this database. */
  'PS-TOKEN-STORE': { exit: 77, retry: 'minutes', hint: 'use the token of this store' },

  /** The new credential could not be saved; HQ was asked for nothing. */
  'PS-TOKEN-SAVE': {
    exit: 73,
    retry: 'never',
    hint: 'make the state directory writable or free space, then: possync token rotate',
  },
  /** Another command is changing the credential of this store. */
  'PS-TOKEN-BUSY': { exit: 75, retry: 'never', hint: 'wait for the other command, then run this one again' },
  /** HQ knows a rotation of this store that this machine does not. */
  'PS-TOKEN-ROTATION': {
    exit: 75,
    retry: 'never',
    hint: 'finish it on the machine that began it, or give it up: possync token rotate --force',
  },
  /** The credential was replaced by a rotation; it may still be used for a while, but not rotated. */
  'PS-TOKEN-RETIRING': {
    exit: 77,
    retry: 'never',
    hint: 'use the newer credential; if it is lost, enrol again: possync store init --token-file FILE',
  },
  /** A revoked credential still has a connection at HQ. */
  'PS-TOKEN-LIVE': {
    exit: 75,
    retry: 'never',
    hint: 'check that every `possync hq serve` reaches the database',
  },

  ...LINK_CODES,

  /** The daemon does not run. */
  'PS-DAEMON-DOWN': {
    exit: 1,
    retry: 'never',
    hint: 'start it: sudo systemctl start possync-store (or: possync store daemon)',
  },
  /** Another daemon already serves this database. */
  'PS-DAEMON-TWICE': { exit: 75, retry: 'slow', hint: 'stop the other daemon of this store' },
  /** The wait ran out. */
  'PS-TIMEOUT': { exit: 1, retry: 'never', hint: 'wait longer with --timeout, or look at `possync status`' },

  /** The store's database is behind what HQ already has from it: it was restored from a backup. */
  'PS-UP-ROLLBACK': {
    exit: 1,
    retry: 'minutes',
    hint: 'run: possync store re-enrol (tills and downloads go on; nothing queued is lost)',
  },
  /** Store and HQ share a number but not the history behind it: restored and sold again, or cloned. */
  'PS-UP-DIVERGED': {
    exit: 1,
    retry: 'minutes',
    hint: 'make sure that no clone of this store runs, then: possync store re-enrol',
  },
  /** Another epoch of this store is in force at HQ. */
  'PS-UP-EPOCH': {
    exit: 1,
    retry: 'minutes',
    hint: 'run `possync store re-enrol` if this is the right database; another one has replaced it',
  },
  /** Another live machine holds this store's session. */
  'PS-OTHER-INSTANCE': {
    exit: 1,
    retry: 'slow',
    hint: 'stop the clone, or give it a store and token of its own',
  },
  /** This session was replaced by a newer one of the same store. */
  'PS-FENCED': { exit: 75, retry: 'soon', hint: 'wait; possync says hello again' },
  /** HQ was restored to before what this store still keeps. */
  'PS-HQ-TOO-OLD': { exit: 1, retry: 'minutes', hint: 'run: possync store reexport --from DATE' },
  /** HQ lost the round that this store's cursor names; everything is pulled again. */
  'PS-DOWN-RESYNC': { exit: 75, retry: 'soon', hint: 'wait; a full download follows by itself' },
  /** A download could not be applied here; the store stays on the last whole state of HQ. */
  'PS-APPLY-FAILED': {
    exit: 1,
    retry: 'slow',
    hint: 'read the message of PostgreSQL; correct it, or call support',
  },
  /** A program here holds a row that a download changes; the download waits for it, tills do not. */
  'PS-APPLY-WAITS': {
    exit: 75,
    retry: 'soon',
    hint: 'end the transaction that is named; possync tries again by itself',
  },
  /** HQ refused a record: it is parked there, everything else flows. */
  'PS-HQ-REJECTED': {
    exit: 1,
    retry: 'never',
    hint: 'look at it at HQ: possync queue ls --dead; then queue retry or queue drop',
  },
  /** Too many records refused in a row: HQ stops this store rather than park them all. */
  'PS-UP-BREAKER': {
    exit: 1,
    retry: 'minutes',
    hint: 'look at HQ: possync queue ls --dead; mend the cause, then queue retry',
  },
  /** No such entry in the queue. */
  'PS-QUEUE-UNKNOWN': { exit: 1, retry: 'never', hint: 'list the entries with `possync queue ls`' },
  /** The local outbox holds what HQ has not acknowledged. */
  'PS-OUTBOX-NOT-EMPTY': {
    exit: 73,
    retry: 'never',
    hint: 'let it drain first, or use: possync store re-enrol',
  },
  /** `possync verify` found rows that store and HQ do not have alike. */
  'PS-VERIFY-DIFFERS': {
    exit: 1,
    retry: 'never',
    hint: 'run `possync verify --repair`: it sends only these rows again',
  },
  /** Too much is on its way to HQ to compare what the store wrote. */
  'PS-VERIFY-BACKLOG': {
    exit: 69,
    retry: 'never',
    hint: 'wait until it is there: possync status --wait drained; then run verify again',
  },
  /** Sending has halted, so nothing can be said of what the store wrote. */
  'PS-VERIFY-HALTED': {
    exit: 69,
    retry: 'never',
    hint: 'look at the reason first: possync status',
  },
  /** The store has not yet downloaded what HQ has, or HQ was restored. */
  'PS-VERIFY-BEHIND': {
    exit: 69,
    retry: 'never',
    hint: 'wait for the download: possync status --wait caught-up; then run verify again',
  },
  /** HQ cannot ask the store: its link is down, or it does not answer. */
  'PS-STORE-UNREACHABLE': {
    exit: 69,
    retry: 'never',
    hint: 'look at its link: possync status CODE; or run `possync verify` in the store',
  },
  /** No PostgreSQL binaries for the demo or the tests. */
  'PS-NO-POSTGRES': {
    exit: 69,
    retry: 'never',
    hint: 'install PostgreSQL 15 or newer, or run npm install with optional packages',
  },
  ...FINDING_CODES,
} as const satisfies Record<`PS-${string}`, ErrorSpec>;

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorDetails {
  /** Why it happened, one sentence. */
  readonly why?: string;
  /** Replaces the table's hint where a better one is known here. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Facts for logs and JSON; never a secret. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** An error with a code, a reason and a next step: the only kind that reaches a person. */
export class PossyncError extends Error {
  readonly code: ErrorCode;
  readonly why: string | undefined;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, { why, hint, cause, details }: ErrorDetails = {}) {
    super(message, { cause });
    this.name = 'PossyncError';
    this.code = code;
    this.why = why;
    this.hint = hint ?? ERRORS[code].hint;
    this.details = details ?? {};
  }

  get exit(): ExitCode {
    return ERRORS[this.code].exit;
  }

  get retry(): Retry {
    return ERRORS[this.code].retry;
  }
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERRORS, text);
}
