/** Which checks run: groups, ids and globs, with everything that those depend on. */
import { PossyncError } from '../core/errors.ts';
import { nearest } from '../core/nearest.ts';
import { LAYERS, type Check } from './check.ts';

export interface Selection {
  /** Words of the command line and of --only; empty = all. */
  readonly only: readonly string[];
  readonly skip: readonly string[];
  readonly quick: boolean;
  readonly deep: boolean;
}

export interface Selected {
  /** In the order of the list, dependencies included. */
  readonly checks: readonly Check[];
  /** Ids that were asked for; what was added for them is shown only when it is not well. */
  readonly asked: ReadonlySet<string>;
}

export function selectChecks(all: readonly Check[], selection: Selection): Selected {
  const { only, skip, quick, deep } = selection;
  for (const pattern of [...only, ...skip]) {
    if (!all.some((check) => matches(check, pattern))) throw unknownCheck(all, pattern);
  }
  const possible = all.filter((check) => (deep || check.deep !== true) && (!quick || check.slow !== true));
  const asked = new Set(
    possible
      .filter((check) => only.length === 0 || only.some((pattern) => matches(check, pattern)))
      .filter((check) => !skip.some((pattern) => matches(check, pattern)))
      .map(({ id }) => id),
  );
  // A check named by its id runs even if it is for --deep or too slow for --quick: somebody asked for it.
  for (const check of all) if (only.includes(check.id)) asked.add(check.id);
  const wanted = withDependencies(all, asked);
  return { checks: all.filter(({ id }) => wanted.has(id)), asked };
}

function withDependencies(all: readonly Check[], asked: ReadonlySet<string>): ReadonlySet<string> {
  const wanted = new Set<string>();
  const add = (id: string): void => {
    if (wanted.has(id)) return;
    wanted.add(id);
    all.find((check) => check.id === id)?.dependsOn?.forEach(add);
  };
  asked.forEach(add);
  return wanted;
}

/** A layer (`dns`), an id (`dns.resolve`) or a glob (`tls.*`, `*.expiry`). */
function matches(check: Check, pattern: string): boolean {
  if (pattern === check.layer || pattern === check.id) return true;
  if (!pattern.includes('*')) return false;
  const expression = pattern
    .split('*')
    .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, String.raw`\$&`))
    .join('.*');
  return new RegExp(`^${expression}$`).test(check.id);
}

function unknownCheck(all: readonly Check[], pattern: string): PossyncError {
  const close = nearest(pattern, [...LAYERS, ...all.map(({ id }) => id)]);
  return new PossyncError('PS-USAGE', `there is no check ${pattern}`, {
    hint: close === undefined ? 'list them with: possync diagnose --list' : `did you mean ${close}?`,
  });
}
