/** `possync demo`: a chain in a box, shown live, compared at the end. */
import { createServer } from 'node:net';
import { EXIT } from '../../core/errors.ts';
import { silentLog } from '../../core/log.ts';
import { runDemo } from '../../demo/demo.ts';
import type { Args } from '../args.ts';
import type { Answer, Context } from '../context.ts';
import { renderDemoFrame, renderDemoResult } from '../render/demo.ts';
import { Live } from '../render/live.ts';

/** Without a terminal nobody can press Ctrl-C: the demo then ends by itself. */
const UNATTENDED_MS = 30_000;
const STORES = 3;
const MAX_STORES = 20;

export async function run(context: Context, args: Args): Promise<Answer> {
  const { term, stderr, clock, signal, config } = context;
  const live = new Live(term, stderr, clock);
  const forMs = args.durationMs('for') ?? (term.animated ? undefined : UNATTENDED_MS);
  if (forMs === undefined) live.say('The demo runs until Ctrl-C, and then compares both sides.');
  const result = await runDemo({
    forMs,
    stores: Math.max(1, Math.min(MAX_STORES, args.integer('stores') ?? STORES)),
    seed: args.integer('seed') ?? clock.now() % 1_000_000,
    signal,
    log: silentLog,
    port: (await isFree(config.listenPort)) ? config.listenPort : 0,
    clock,
    onStep: (text) => {
      live.say(`${text} ${term.err.glyphs.cut}`);
    },
    onFrame: (frame, last) => {
      live.draw(renderDemoFrame(term.err, frame), last);
    },
  });
  const equal = result.differences === 0 && result.salesMade === result.salesAtHq;
  return {
    schema: 'possync.demo/1',
    exit: equal ? EXIT.ok : EXIT.no,
    body: {
      stores: result.stores,
      sales_made: result.salesMade,
      sales_at_hq: result.salesAtHq,
      differences: result.differences,
      rows_compared: result.rowsCompared,
      seconds: result.seconds,
    },
    text: (paint) => renderDemoResult(paint, result),
  };
}

/** Somebody may already serve a real HQ here: the demo then takes another port, and prints it. */
async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject);
      probe.listen(port, '127.0.0.1', resolve);
    });
    return true;
  } catch {
    return false; // taken, or not ours to take: either way another port serves as well
  } finally {
    probe.close();
  }
}
