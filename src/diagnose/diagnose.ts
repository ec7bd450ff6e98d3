/** One diagnosis: select, run, judge, remember. Rendering it is the business of the command line. */
import { randomUUID } from 'node:crypto';
import { CHECKS } from './checks.ts';
import { PATIENCE_DEFAULT, type Check, type CheckResult, type Patience, type Status } from './check.ts';
import type { Facts } from './facts.ts';
import { keyFingerprint, oneLine } from './layers/tls.ts';
import { createMachine, type Machine } from './machine.ts';
import { saveMemory } from './memory.ts';
import { runChecks } from './runner.ts';
import { selectChecks } from './select.ts';
import type { Subject } from './subject.ts';
import { verdictOf, type Verdict } from './verdict.ts';

export interface DiagnoseOptions {
  readonly subject: Subject;
  readonly machine?: Machine;
  readonly only?: readonly string[];
  readonly skip?: readonly string[];
  readonly quick?: boolean;
  readonly deep?: boolean;
  /** Fifteen seconds; three with `quick`, two minutes with `deep`. */
  readonly budgetMs?: number;
  readonly patience?: Partial<Patience>;
  readonly observer?: (result: CheckResult) => void;
  readonly started?: (check: Check) => void;
  readonly signal?: AbortSignal;
}

export interface Report {
  readonly runId: string;
  readonly startedAt: string;
  readonly target: string | null;
  readonly store: Subject['store'];
  readonly checks: readonly CheckResult[];
  readonly summary: Readonly<Record<Status, number>> & { readonly durationMs: number };
  readonly verdict: Verdict;
}

/** Even if every packet is dropped. */
const BUDGET_MS = 15_000;
const QUICK_BUDGET_MS = 3_000;
/** Silence of 75 seconds on a WebSocket is part of it. */
const DEEP_BUDGET_MS = 120_000;

/** Layers that say nothing before a store is installed. */
const INSTALLED_ONLY = ['daemon', 'db', 'queue', 'token'];

export async function diagnose(options: DiagnoseOptions): Promise<Report> {
  const { subject, machine = createMachine(), only = [], skip = [], quick = false, deep = false } = options;
  const all = subject.bare
    ? CHECKS.filter(({ layer }) => !INSTALLED_ONLY.includes(layer)).map(withoutToken)
    : CHECKS;
  const selected = selectChecks(all, { only, skip, quick, deep });
  const facts: Facts = {};
  const startedAt = performance.now();
  const startedOn = new Date(machine.clock.now()).toISOString();
  const budgetMs = options.budgetMs ?? (quick ? QUICK_BUDGET_MS : deep ? DEEP_BUDGET_MS : BUDGET_MS);
  const patience = { ...PATIENCE_DEFAULT, ...(quick ? QUICK_PATIENCE : {}), ...options.patience };
  let results: CheckResult[];
  try {
    results = await runChecks(
      selected.checks,
      { subject, machine, facts, patience, deep },
      {
        budgetMs,
        ...(options.observer === undefined ? {} : { observer: options.observer }),
        ...(options.started === undefined ? {} : { started: options.started }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      },
    );
  } finally {
    await facts.db?.end().catch(() => undefined); // a connection that is already gone
  }
  const verdict = verdictOf(results, facts, machine, only.length > 0 || skip.length > 0);
  if (!subject.bare && verdict.code === null) await remember(subject, facts, machine);
  // What was only needed by others is shown when it is the reason.
  const shown = results.filter(
    ({ id, status }) => selected.asked.has(id) || status === 'fail' || status === 'error',
  );
  return {
    runId: randomUUID(),
    startedAt: startedOn,
    target: facts.target === undefined ? (subject.hqUrl ?? null) : urlOf(facts.target),
    store: subject.store,
    checks: shown,
    summary: { ...countStatuses(shown), durationMs: Math.round(performance.now() - startedAt) },
    verdict,
  };
}

/** The whole run must fit into three seconds. */
const QUICK_PATIENCE: Partial<Patience> = { connectMs: 2_000, replyMs: 1_500, dnsMs: 400 };

/** Before a store is installed no check can wait for its token. */
function withoutToken(check: Check): Check {
  const lasting = (check.dependsOn ?? []).filter(
    (id) => !INSTALLED_ONLY.some((layer) => id.startsWith(`${layer}.`)),
  );
  return { ...check, dependsOn: lasting };
}

function urlOf({ secure, host, port }: NonNullable<Facts['target']>): string {
  return `${secure ? 'wss' : 'ws'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

export function countStatuses(results: readonly CheckResult[]): Record<Status, number> {
  const counts: Record<Status, number> = { pass: 0, warn: 0, fail: 0, skip: 0, error: 0 };
  for (const { status } of results) counts[status] += 1;
  return counts;
}

async function remember(subject: Subject, facts: Facts, machine: Machine): Promise<void> {
  const { target, reachable, tls, ping } = facts;
  // Only what HQ itself proved is worth remembering.
  if (target === undefined || reachable === undefined || ping === undefined) return;
  const [leaf] = tls?.chain ?? [];
  await saveMemory(subject.stateDir, {
    host: target.host,
    port: target.port,
    address: reachable.address,
    issuer: leaf === undefined ? null : oneLine(leaf.issuer),
    key: leaf === undefined ? null : keyFingerprint(leaf),
    at: new Date(machine.clock.now()).toISOString(),
  });
}
