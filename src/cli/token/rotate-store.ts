/** `possync token rotate` in a store: it replaces its own credential while everything goes on. */
import { EXIT } from '../../core/errors.ts';
import { expiresWithin, rotateCredential, type RotateResult, type RotationStep } from '../../store/rotate.ts';
import type { TakenUp } from '../../store/local-api.ts';
import * as z from 'zod';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { askDaemon, socketPath } from '../daemon-socket.ts';
import { proxySettings } from '../hq-connection.ts';
import type { RotateFlags } from './rotate-flags.ts';

const TIMEOUT_MS = 30_000;
/** The daemon swaps its open connection within five seconds, or begins a new one. */
const TAKE_UP_MS = 10_000;

const takenSchema = z.object({
  kid: z.string().nullable(),
  in_band: z.boolean(),
  indicator: z.enum(['green', 'red']),
});

interface Step {
  readonly name: RotationStep;
  readonly status: 'done';
  readonly ms: number;
}

export async function rotateHere(context: Context, args: Args, flags: RotateFlags): Promise<Answer> {
  const { config, clock } = context;
  const timeoutMs = args.durationMs('timeout') ?? TIMEOUT_MS;
  const { graceMs, expiresInMs, withinMs, revokeOldNow, dryRun, force } = flags;
  const steps: Step[] = [];
  const lines: string[] = [];
  const { glyphs, good } = context.term.out;
  let stepBegan = clock.now();
  const result = await rotateCredential({
    stateDir: config.stateDir,
    clock,
    hqUrl: config.hqUrl,
    proxies: proxySettings(context),
    caFile: config.tlsCaFile,
    graceMs,
    expiresInMs,
    ...(withinMs === undefined ? {} : { needed: expiresWithin(withinMs) }),
    revokeOldNow,
    dryRun,
    force,
    signal: AbortSignal.any([context.signal, AbortSignal.timeout(timeoutMs)]),
    takeUp: () => takeUp(context),
    step: (name, note) => {
      const now = clock.now();
      steps.push({ name, status: 'done', ms: now - stepBegan });
      stepBegan = now;
      lines.push(`  ${good(glyphs.pass)} ${name.padEnd(11)} ${note}\n`);
    },
  });
  return {
    schema: 'possync.token-rotate/1',
    exit: EXIT.ok,
    body: {
      result: result.result,
      rotation_id: result.rotationId,
      store_id: result.storeId,
      code: result.code,
      old: { kid: result.old.kid, valid_until: result.old.validUntil },
      new: result.new.kid === null ? null : { kid: result.new.kid, expires_at: result.new.expiresAt },
      offline_ms: result.offlineMs,
      steps,
    },
    text: () => (result.result === 'not_needed' ? '' : lines.join('')) + sentence(result, clock.now()),
  };
}

async function takeUp(context: Context): Promise<TakenUp | undefined> {
  const socket = socketPath(context.config.stateDir, context.env);
  const answer = takenSchema.safeParse(await askDaemon(socket, 'POST', '/api/v1/credential', TAKE_UP_MS));
  return answer.success ? answer.data : undefined;
}

function sentence(result: RotateResult, nowMs: number): string {
  const { old, code } = result;
  switch (result.result) {
    case 'not_needed':
      return old.validUntil === null
        ? `Not needed: ${old.kid} does not expire.\n`
        : `Not needed: ${old.kid} has ${Math.floor((Date.parse(old.validUntil) - nowMs) / 86_400_000)} days left.\n`;
    case 'dry_run':
      return `Would rotate ${old.kid} of store ${code}. Nothing changed.\n`;
    case 'rotated':
    case 'resumed': {
      const how = result.result === 'resumed' ? 'Finished the rotation of' : 'Rotated';
      const ended = old.validUntil === null || Date.parse(old.validUntil) <= nowMs;
      const until = ended ? 'is revoked' : `works until ${minute(old.validUntil)} UTC, then it ends`;
      return `${how} ${old.kid} → ${result.new.kid ?? '?'} for store ${code}. ${old.kid} ${until}.\n`;
    }
  }
}

function minute(at: string | null): string {
  return at === null ? '?' : new Date(at).toISOString().slice(0, 16).replace('T', ' ');
}
