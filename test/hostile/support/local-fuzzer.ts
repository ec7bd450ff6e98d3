/** Hostile requests to both listeners of a daemon, from a seeded generator: refused or answered, never a fault of its own. */
import assert from 'node:assert/strict';
import type { Random } from '../../support/random.ts';
import { mutateBytes, mutateJson } from './mutate.ts';
import { exchange, rawRequest, type Answer } from './raw.ts';

/** As in the head comment of src/store/local-api.ts. */
export const READ = ['/livez', '/readyz', '/connz', '/indicator.svg', '/api/v1/status'];
export const WRITE = ['pull', 'push', 'reload', 'credential', 'diagnose', 're-enrol'].map(
  (name) => `/api/v1/${name}`,
);
const TRICKS = [
  '//',
  '///x',
  '/api/v1/../../etc/passwd',
  '/%',
  '/%ff',
  '/api/v1/status%00',
  '*',
  'http://[::1/',
  '/\\x',
];

function judge(answer: Answer | undefined, sent: string): void {
  if (answer === undefined) return;
  // 503 is how /connz says red: an answer, not a fault.
  assert.ok(answer.status < 500 || sent.includes('/connz'), `${answer.status} to ${sent}`);
}

/** Throws what the judge has found. */
export async function attackLocal(
  { port, socket }: { readonly port: number; readonly socket: string },
  rounds: number,
  random: Random,
): Promise<void> {
  for (const where of [port, socket]) {
    const paths = [...READ, ...TRICKS];
    if (where === socket) paths.push('/api/v1/diagnose', '/api/v1/reload', '/api/v1/verify');
    for (let round = 0; round < rounds; round += 1) {
      const path = random.pick(paths);
      const text = mutateJson({ quick: true, checks: ['dns'] }, random);
      const body = random.chance(0.3) ? mutateBytes(text, random) : Buffer.from(text);
      const request = rawRequest({
        method: random.pick(['GET', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'TRACE']),
        path: random.chance(0.2)
          ? `${path}?${random.pick(['verbose', '%', 'from=\0', 'fresh=1&fresh=2'])}`
          : path,
        headers: [['host', random.pick(['localhost', '127.0.0.1', 'evil.example', '', '[::1]:3002'])]],
        body,
      });
      judge(await exchange(where, request), JSON.stringify(request.toString('latin1').slice(0, 300)));
    }
  }
}
