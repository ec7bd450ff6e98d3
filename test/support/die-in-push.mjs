/**
 * Loaded into a daemon (NODE_OPTIONS=--import) it ends the process by kill -9 at one moment of a push.
 *
 *   DIE_FILE   while that file is there, the moment named in it is deadly:
 *                sealed     transactions have been sealed and committed, nothing of them has been sent
 *                answered   HQ has answered a push, nothing of the answer has been looked at
 */
import { channel } from 'node:diagnostics_channel';
import fs from 'node:fs';
import pg from 'pg';

const { DIE_FILE = '' } = process.env;

function reached(moment) {
  let armed;
  try {
    armed = fs.readFileSync(DIE_FILE, 'utf8');
  } catch {
    return;
  }
  if (armed === moment) process.kill(process.pid, 'SIGKILL');
}

channel('http.client.response.finish').subscribe(({ request: { method, path } }) => {
  if (method === 'POST' && path.endsWith('/sync/push')) reached('answered');
});

const query = pg.Client.prototype.query;
pg.Client.prototype.query = function (...args) {
  const result = query.apply(this, args);
  if (typeof args[0] !== 'string' || !args[0].includes('possync.seal_outbox()')) return result;
  return result.then((answers) => {
    // The answer to the whole message, its COMMIT included.
    if (Array.isArray(answers) && answers.some(({ rows }) => rows.some(({ sealed }) => sealed > 0)))
      reached('sealed');
    return answers;
  });
};
