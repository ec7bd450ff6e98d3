/** Tokens as commands show them: never a secret. */
import type { ListedToken } from '../hq/stores/tokens.ts';
import type { Paint } from './render/term.ts';
import { renderTable } from './render/table.ts';

export interface TokenBody {
  readonly kid: string;
  readonly code: string;
  readonly kind: ListedToken['kind'];
  readonly state: ListedToken['state'];
  readonly created_at: string | null;
  readonly last_used_at: string | null;
  readonly expires_at: string | null;
  readonly ended_at: string | null;
  readonly ended_why: string | null;
}

export function tokenBody(token: ListedToken): TokenBody {
  return {
    kid: token.kid,
    code: token.code,
    kind: token.kind,
    state: token.state,
    created_at: token.createdAt,
    last_used_at: token.lastUsedAt,
    expires_at: token.expiresAt,
    ended_at: token.endedAt,
    ended_why: token.endedWhy,
  };
}

export function tokenTable(paint: Paint, tokens: readonly ListedToken[]): string {
  if (tokens.length === 0) return 'No tokens. Issue one: possync token issue CODE --hq-url URL\n';
  return renderTable(
    paint,
    ['KID', 'STORE', 'KIND', 'STATE', 'CREATED', 'LAST USED', 'EXPIRES'],
    tokens.map((token) => [
      token.kid,
      token.code,
      token.kind,
      token.endedWhy === null ? token.state : `${token.state} (${token.endedWhy})`,
      minuteOf(token.createdAt),
      minuteOf(token.lastUsedAt),
      minuteOf(token.expiresAt),
    ]),
  );
}

/** `2026-11-24 03:21`, UTC. */
export function minuteOf(at: string | null): string {
  return at === null ? '-' : new Date(at).toISOString().slice(0, 16).replace('T', ' ');
}
