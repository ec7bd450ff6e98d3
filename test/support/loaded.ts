/** Which of the heavy packages a start of the program has loaded. */
import assert from 'node:assert/strict';
import { startNode } from './process.ts';

/** Half a second together (knex 53 ms, ws 50, pg 42, winston 41 and what they bring along). */
export const HEAVY = ['pg', 'knex', 'ws', 'winston', 'prom-client'];

/** All of them are CommonJS and no part of dist: at the end Node's module cache names each file of theirs that was loaded. */
const REPORT =
  'data:text/javascript,' +
  encodeURIComponent(`
    import { createRequire } from 'node:module';
    import { writeSync } from 'node:fs';
    process.on('exit', () => {
      const files = Object.keys(createRequire('/').cache).map((file) => file.replaceAll('\\\\', '/'));
      writeSync(2, 'LOADED ' + JSON.stringify(files) + '\\n');
    });`);

export async function loadedBy(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const { stderr } = await (await startNode(['--import', REPORT, ...args], { env })).ended();
  const report = /^LOADED (.*)$/m.exec(stderr)?.[1];
  assert.ok(report, stderr);
  const files = JSON.parse(report) as string[];
  return HEAVY.filter((name) => files.some((file) => file.includes(`/node_modules/${name}/`)));
}
