/** The flags of `token rotate` that mean the same in a store and at HQ. */
import { PossyncError } from '../../core/errors.ts';
import { ROTATION_GRACE_MS, ROTATION_MAX_MS } from '../../protocol/http.ts';
import type { Args } from '../args.ts';

export interface RotateFlags {
  readonly graceMs: number;
  /** null = as HQ is set. */
  readonly expiresInMs: number | null;
  /** Only what ends within this time. */
  readonly withinMs: number | undefined;
  readonly revokeOldNow: boolean;
  readonly dryRun: boolean;
  readonly force: boolean;
}

export function rotateFlags(args: Args): RotateFlags {
  const graceMs = args.durationMs('grace') ?? ROTATION_GRACE_MS;
  const expiresInMs = args.durationMs('expiresIn') ?? null;
  const revokeOldNow = args.flag('revokeOldNow');
  if (graceMs > ROTATION_MAX_MS) throw new PossyncError('PS-USAGE', '--grace is too long');
  if (expiresInMs !== null && (expiresInMs < 60_000 || expiresInMs > ROTATION_MAX_MS))
    throw new PossyncError('PS-USAGE', '--expires-in must be from 1m to 3660d');
  if (revokeOldNow && args.text('grace') !== undefined)
    throw new PossyncError('PS-USAGE', '--grace and --revoke-old-now exclude each other');
  return {
    graceMs,
    expiresInMs,
    withinMs: args.durationMs('ifExpiresWithin'),
    revokeOldNow,
    dryRun: args.flag('dryRun'),
    force: args.flag('force'),
  };
}
