/** Opens a log: JSON lines to a rotating file, and the same lines for people on a terminal. */
import winston from 'winston';
import { codeOf } from './classify.ts';
import { PossyncError } from './errors.ts';
import { uuidv7 } from './ids.ts';
import type { Log, LogFields } from './log.ts';
import type { LogLevel } from './log-levels.ts';
import { LogFile, type LogFileOptions } from './log-file.ts';
import { redact } from './secret.ts';

export interface LogOptions {
  /** Null: no file, e.g. for a command that logs to stderr only. */
  readonly file: LogFileOptions | null;
  readonly level: LogLevel;
  /** On every line: role, store code, version. */
  readonly fields: LogFields;
  /** Also written for people to this stream; usually stderr when it is a terminal. */
  readonly terminal?: NodeJS.WritableStream;
}

export interface OpenLog {
  readonly log: Log;
  /** For logrotate (SIGHUP). */
  readonly reopen: () => void;
  /** Lines that could not be written, since the start. */
  readonly lost: () => number;
  /** Writes out what is buffered. */
  readonly close: () => Promise<void>;
}

/** syslog readers and `grep` cope badly with longer lines. */
const LINE_LIMIT_BYTES = 4 * 1024;
const TEXT_LIMIT = 1_000;
/** Of no use to somebody who reads one daemon's lines on a terminal. */
const MACHINE_FIELDS = new Set(['event', 'component', 'pid', 'run', 'ver', 'role', 'store']);
/** Beyond this much unwritten log the disk is the bottleneck: routine lines are dropped, warnings are not. */
const BACKLOG_BYTES = 8 * 1024 * 1024;

export function openLog({ file, level, fields, terminal }: LogOptions): OpenLog {
  const sink = file === null ? undefined : new LogFile(file);
  const transports: winston.transports.StreamTransportInstance[] = [];
  if (sink !== undefined)
    transports.push(new winston.transports.Stream({ stream: sink, format: jsonLines(), eol: '\n' }));
  if (terminal !== undefined)
    transports.push(new winston.transports.Stream({ stream: terminal, format: forPeople(), eol: '\n' }));
  const logger = winston.createLogger({
    level,
    levels: { error: 0, warn: 1, info: 2, debug: 3 },
    // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston types its own transports as another class
    transports,
    silent: transports.length === 0,
  });
  let backlogDropped = 0;
  let backlogLost = 0;
  let closed = false;
  const base: LogFields = { ...fields, pid: process.pid, run: uuidv7() };
  const write = (at: LogLevel, message: string, more: LogFields): void => {
    // Of what a shutdown did not wait for; winston would end the process over it.
    if (closed) return;
    if (sink !== undefined && sink.writableLength > BACKLOG_BYTES && (at === 'info' || at === 'debug')) {
      backlogDropped += 1;
      backlogLost += 1;
      return;
    }
    const dropped = backlogDropped + (sink?.takeDropped() ?? 0);
    backlogDropped = 0;
    if (dropped > 0)
      logger.log('warn', 'log lines were dropped', { fields: { ...base, event: 'log.dropped', dropped } });
    logger.log(at, message, { fields: more });
  };
  return {
    log: childLog(base, write),
    reopen: () => {
      sink?.reopen();
      write('info', 'log file reopened', { ...base, event: 'config.reloaded' });
    },
    lost: () => backlogLost + (sink?.lost ?? 0),
    close: async () => {
      closed = true;
      await closeLog(logger, sink);
    },
  };
}

function childLog(
  fields: LogFields,
  write: (level: LogLevel, message: string, fields: LogFields) => void,
): Log {
  const at =
    (level: LogLevel) =>
    (message: string, more: LogFields = {}): void => {
      write(level, message, { ...fields, ...more });
    };
  return {
    error: at('error'),
    warn: at('warn'),
    info: at('info'),
    debug: at('debug'),
    child: (more) => childLog({ ...fields, ...more }, write),
  };
}

/** winston hands lines to its transports through streams of its own, so both must have ended. */
async function closeLog(logger: winston.Logger, sink: LogFile | undefined): Promise<void> {
  const drained = new Promise<void>((resolve) => {
    logger.once('finish', resolve);
  });
  logger.end();
  await drained;
  if (sink === undefined) return;
  await new Promise<void>((resolve) => {
    sink.end(resolve);
  });
}

function jsonLines(): winston.Logform.Format {
  return winston.format.printf((info) => jsonLine(info.level, String(info.message), fieldsOf(info)));
}

function forPeople(): winston.Logform.Format {
  return winston.format.printf((info) => {
    const rest = Object.entries(printable(fieldsOf(info)))
      .filter(([key, value]) => value !== undefined && !MACHINE_FIELDS.has(key))
      .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
      .join(' ');
    const time = new Date().toISOString().slice(11, 19);
    const line = `${time}  ${info.level.padEnd(5)} ${String(info.message)}${rest === '' ? '' : `  ${rest}`}`;
    // What HQ or a box on the way said must not move the cursor of a terminal.
    return redact(line.replace(/\p{Cc}/gu, ' '));
  });
}

function fieldsOf(info: winston.Logform.TransformableInfo): LogFields {
  return typeof info.fields === 'object' && info.fields !== null ? (info.fields as LogFields) : {};
}

/** One line of the log file; exported because its form is a contract (cli.md d.6). */
export function jsonLine(level: string, message: string, fields: LogFields): string {
  const head = { ts: new Date().toISOString(), level, msg: clipped(message) };
  const line = redact(JSON.stringify({ ...head, ...printable(fields) }));
  if (Buffer.byteLength(line) <= LINE_LIMIT_BYTES) return line;
  const { event, code, component, store, role, pid, ver, run } = fields;
  return redact(
    JSON.stringify({ ...head, component, event, code, store, role, pid, ver, run, truncated: true }),
  );
}

/** Errors as {code, message}, long texts cut, bigint as text; a Secret prints its label by itself. */
function printable(fields: LogFields): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, printableValue(value)]));
}

function printableValue(value: unknown): unknown {
  if (value instanceof PossyncError)
    return { code: value.code, message: clipped(value.message), why: value.why && clipped(value.why) };
  if (value instanceof Error) return { code: codeOf(value), message: clipped(value.message) };
  if (typeof value === 'string') return clipped(value);
  if (typeof value === 'bigint') return value.toString();
  return value;
}

function clipped(text: string): string {
  return text.length <= TEXT_LIMIT ? text : `${text.slice(0, TEXT_LIMIT)}…`;
}
