/** What `possync status` needs of a side: read, judge, show, wait. HQ and store each have one. */
import type { Paint } from '../render/term.ts';

export type WaitFor = 'green' | 'drained' | 'caught-up';

export interface Side<View extends object> {
  read(): Promise<View>;
  isGreen(view: View): boolean;
  /** The part of it that is shown, as JSON and as text; what it means is judged from the whole. */
  shown(view: View): View;
  render(paint: Paint, view: View): string;
  short(paint: Paint, view: View): string;
  /**
   * Begins to wait: for caught-up this is the moment that counts. The returned question says whether it is reached,
   * asked again and again.
   */
  waitFor(what: WaitFor): Promise<() => Promise<boolean>>;
  close(): Promise<void>;
}
