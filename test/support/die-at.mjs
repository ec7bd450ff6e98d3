/**
 * Loaded into a possync process (NODE_OPTIONS=--import) it gives every step of a rotation a name, and ends the process at one.
 *
 *   DIE_AT=NAME           kill -9 of itself when the step NAME is done    (DIE_FILE: the name is read from that file, if it is there)
 *   READ_ONLY_FROM=NAME   from that step on every write into the state directory fails as on a read-only disk
 *   DIE_TRACE=FILE        each step that is done is a line in FILE
 *
 * Steps: what is written, renamed, linked, removed or synced under a name that begins with `credential`; requests sent and
 * answered; at HQ requests that arrived, statements that changed tokens, and answers about to be sent.
 */
import { channel } from 'node:diagnostics_channel';
import fs from 'node:fs';
import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { basename } from 'node:path';
import pg from 'pg';

const { DIE_AT, DIE_FILE, READ_ONLY_FROM, DIE_TRACE } = process.env;
const seen = new Map();
let readOnly = false;

function done(step) {
  const times = (seen.get(step) ?? 0) + 1;
  seen.set(step, times);
  const name = times === 1 ? step : `${step} #${times}`;
  if (DIE_TRACE !== undefined) fs.appendFileSync(DIE_TRACE, `${name}\n`);
  if (name === READ_ONLY_FROM) readOnly = true;
  if (name === DIE_AT || armed() === step) process.kill(process.pid, 'SIGKILL');
}

function armed() {
  if (DIE_FILE === undefined) return undefined;
  try {
    return fs.readFileSync(DIE_FILE, 'utf8');
  } catch {
    return undefined;
  }
}

/** The name of a file without what differs from run to run; undefined = not of the credential. */
function named(path) {
  const name = basename(String(path));
  if (!name.startsWith('credential')) return undefined;
  return name.replace(/\.tmp-[0-9a-f]+$/, '.tmp').replace(/\.[0-9a-f-]{36}$/, '.beside');
}

function refuseIfReadOnly(path) {
  if (readOnly && named(path) !== undefined)
    throw Object.assign(new Error(`EROFS: read-only file system, '${path}'`), { code: 'EROFS' });
}

const { promises } = fs;
const paths = new WeakMap();

for (const operation of ['rename', 'link', 'unlink', 'writeFile']) {
  const original = promises[operation];
  promises[operation] = async (...args) => {
    const target = operation === 'rename' || operation === 'link' ? args[1] : args[0];
    refuseIfReadOnly(target);
    const result = await original.apply(promises, args);
    const name = named(target);
    if (name !== undefined) done(`${operation} ${name}`);
    return result;
  };
}

const open = promises.open;
promises.open = async (path, flags, ...rest) => {
  if (flags !== 'r' && flags !== undefined) refuseIfReadOnly(path);
  const handle = await open.call(promises, path, flags, ...rest);
  const isFolder = flags === 'r' && (await handle.stat()).isDirectory();
  paths.set(handle, isFolder ? 'the folder' : named(path));
  return handle;
};
const probe = await open.call(promises, tmpdir(), 'r');
const FileHandle = Object.getPrototypeOf(probe);
await probe.close();
for (const operation of ['writeFile', 'sync']) {
  const original = FileHandle[operation];
  FileHandle[operation] = async function (...args) {
    const result = await original.apply(this, args);
    const name = paths.get(this);
    if (name !== undefined) done(`${operation === 'sync' ? 'sync' : 'write'} ${name}`);
    return result;
  };
}
syncBuiltinESMExports();

function request({ method, path = '', url = path }) {
  const route = url.split('?')[0].replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, 'ID');
  return `${method} ${route}`;
}
const ours = (text) => /\/(whoami|tokens\/rotations)/.test(text);

channel('http.client.request.start').subscribe(({ request: sent }) => {
  const text = request(sent);
  if (ours(text)) sent.once('finish', () => done(`sent ${text}`));
});
channel('http.client.response.finish').subscribe(({ request: sent }) => {
  const text = request(sent);
  if (ours(text)) done(`answered ${text}`);
});
channel('http.server.request.start').subscribe(({ request: arrived }) => {
  const text = request(arrived);
  if (ours(text)) done(`arrived ${text}`);
});
const writeHead = http.ServerResponse.prototype.writeHead;
http.ServerResponse.prototype.writeHead = function (...args) {
  const text = request(this.req);
  if (ours(text)) done(`answering ${text}`);
  return writeHead.apply(this, args);
};
const query = pg.Client.prototype.query;
pg.Client.prototype.query = function (config, ...rest) {
  const text = (typeof config === 'string' ? config : (config?.text ?? '')).trim().replace(/\s+/g, ' ');
  const [step] = /^(insert into|update) possync\.(tokens|rotations)\b/.exec(text) ?? [];
  const result = query.call(this, config, ...rest);
  if (step !== undefined && !text.includes('last_used_at') && typeof result?.then === 'function')
    return result.then((value) => {
      done(`sql ${step}`);
      return value;
    });
  return result;
};
