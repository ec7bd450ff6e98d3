/** How the demo looks: one line per store with its light, and what has happened so far. */
import type { DemoFrame, DemoResult } from '../../demo/demo.ts';
import { renderTable } from './table.ts';
import type { Paint } from './term.ts';

export function renderDemoFrame(paint: Paint, frame: DemoFrame): string {
  const { glyphs } = paint;
  const head = ['STORE', 'NAME', 'LINK', 'QUEUED', 'SALES', 'Z', 'BEHIND'];
  const rows = frame.stores.map((store) => [
    store.code,
    store.name,
    store.light === 'green' ? paint.good(`${glyphs.on} connected`) : paint.bad(`${glyphs.off} disconnected`),
    String(store.queued),
    String(store.sales),
    String(store.zReports),
    String(store.behind),
  ]);
  const seconds = Math.round(frame.elapsedMs / 1_000);
  return (
    `${seconds}s  HQ ${frame.hqUrl} ${glyphs.dot} ${frame.salesMade} sales made, ${frame.salesAtHq} at HQ\n` +
    renderTable(paint, head, rows) +
    frame.events
      .slice(-3)
      .map((event) => `${event}\n`)
      .join('')
  );
}

export function renderDemoResult(paint: Paint, result: DemoResult): string {
  const { glyphs } = paint;
  const equal = result.differences === 0 && result.salesMade === result.salesAtHq;
  const verdict = equal
    ? paint.good(`${glyphs.pass} both sides are equal`)
    : paint.bad(`${glyphs.fail} the sides differ in ${result.differences} rows`);
  return (
    `${result.salesMade} sales made in ${result.stores} stores, ${result.salesAtHq} at HQ, ` +
    `${result.rowsCompared} rows compared on both sides in ${result.seconds} s\n${verdict}\n`
  );
}
