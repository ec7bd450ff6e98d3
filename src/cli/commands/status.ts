/** `possync status`: one light, and beside it what waits; exit 0 green, 1 red or the wait ran out, 69 cannot tell. */
import type pg from 'pg';
import { EXIT, PossyncError, type ExitCode } from '../../core/errors.ts';
import type { Role } from '../../db/migrations.ts';
import { STATUS_SCHEMA } from '../../protocol/status.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { jsonDocument } from '../render/json.ts';
import { CURSOR } from '../render/clean.ts';
import type { Side } from '../status/side.ts';
import { StoreSide } from '../status/store.ts';

const WAIT_MS_DEFAULT = 60_000;
const POLL_MS = 200;
const WATCH_MS_DEFAULT = 2_000;

export async function run(context: Context, args: Args): Promise<Answer | ExitCode> {
  const waitFor = args.choice('wait', ['green', 'drained', 'caught-up']);
  const timeoutMs = args.durationMs('timeout') ?? WAIT_MS_DEFAULT;
  const watch = args.flag('watch') || args.text('watch') !== undefined;
  const watchMs = args.durationMs('watch') ?? WATCH_MS_DEFAULT;
  const side = await openSide(context, args);
  try {
    if (watch) return await watchSide(context, side, watchMs);
    const reached = waitFor === undefined ? undefined : await wait(context, side, waitFor, timeoutMs);
    const view = await side.read();
    const exit = (reached ?? side.isGreen(view)) ? EXIT.ok : EXIT.no;
    return {
      schema: STATUS_SCHEMA,
      exit,
      body: { ...side.shown(view), ...(waitFor === undefined ? {} : { wait: { for: waitFor, reached } }) },
      text: (paint) => {
        if (reached === false) context.note(`not ${waitFor ?? ''} within ${timeoutMs / 1_000} s`);
        return args.flag('short') ? side.short(paint, view) : side.render(paint, view);
      },
    };
  } finally {
    await side.close();
  }
}

async function openSide(context: Context, args: Args): Promise<Side<object>> {
  const code = args.maybeAt(0);
  const onlyAtHq = ['red', 'behind', 'store', 'sort'].find((name) => args.given(name));
  let opened: ReturnType<typeof openDatabase> | undefined;
  const open = (): ReturnType<typeof openDatabase> => (opened ??= openDatabase(context));
  const store = new StoreSide(context, async () => (await open())?.pool);
  // A database that a store's daemon reads is a store's: no need to ask it, nor to load what asks.
  const local = code === undefined && onlyAtHq === undefined && context.roleOverride !== 'hq';
  if (local && (await store.isTold())) return store;
  const found = await open();
  if (found?.role === 'hq') {
    const { HqSide } = await import('../status/hq.ts');
    const { showStore } = await import('../../hq/stores/stores.ts');
    const { SORTS } = await import('../../hq/status-select.ts');
    const storeId = code === undefined ? undefined : (await showStore(found.pool, code)).id;
    return new HqSide(context, found.pool, {
      storeId,
      codes: args.list('store'),
      all: args.flag('all'),
      red: args.flag('red'),
      behindMs: args.durationMs('behind'),
      sort: args.choice('sort', SORTS) ?? 'trouble',
    });
  }
  if (onlyAtHq !== undefined)
    throw new PossyncError(
      'PS-WRONG-SIDE',
      `--${onlyAtHq} chooses among the stores of HQ; this is one store`,
    );
  return store;
}

/** undefined: PostgreSQL is away; the daemon may still answer for its store. */
async function openDatabase(context: Context): Promise<{ pool: pg.Pool; role: Role } | undefined> {
  try {
    return await context.database();
  } catch (error) {
    if (error instanceof PossyncError && error.code === 'PS-DB-DOWN' && context.roleOverride !== 'hq')
      return undefined;
    throw error;
  }
}

async function wait(
  context: Context,
  side: Side<object>,
  what: 'green' | 'drained' | 'caught-up',
  timeoutMs: number,
): Promise<boolean> {
  const { clock, signal } = context;
  const until = clock.now() + timeoutMs;
  const reached = await side.waitFor(what);
  for (;;) {
    if (await reached()) return true;
    const left = until - clock.now();
    if (left <= 0) return false;
    await clock.sleep(Math.min(POLL_MS, left), signal);
    signal.throwIfAborted();
  }
}

/** On a terminal the picture is drawn again in place; elsewhere each change is one line. Ends with Ctrl-C. */
async function watchSide(context: Context, side: Side<object>, everyMs: number): Promise<ExitCode> {
  const { clock, signal, stdout, term } = context;
  let last = '';
  for (;;) {
    const view = await side.read();
    const exit = side.isGreen(view) ? EXIT.ok : EXIT.no;
    const short = side.short(term.out, view);
    if (term.json) {
      const facts =
        short + JSON.stringify(side.shown(view)).replace(/"[a-z_]*(_at|_ms)":("[^"]*"|\d+|null)/g, '');
      if (facts !== last)
        stdout.write(jsonDocument(STATUS_SCHEMA, exit, { ...side.shown(view) }, clock.now()));
      last = facts;
    } else if (term.out.cursor) {
      stdout.write(CURSOR.home + side.render(term.out, view));
    } else {
      if (short !== last) stdout.write(`${new Date(clock.now()).toISOString()}  ${short}`);
      last = short;
    }
    await clock.sleep(everyMs, signal);
    signal.throwIfAborted();
  }
}
