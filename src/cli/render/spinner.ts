/** Shows that a step takes time: a spinner on a real terminal, one plain line elsewhere, nothing under --json. */
import type { Clock } from '../../core/clock.ts';
import type { OutputStream, Term } from './term.ts';

export interface Progress {
  update(text: string): void;
  stop(): void;
}

/** After this long without a word, a plain stderr says once what is being waited for. */
const PLAIN_AFTER_MS = 2_000;

export async function startProgress(
  term: Term,
  stderr: OutputStream,
  clock: Clock,
  text: string,
): Promise<Progress> {
  if (term.animated) {
    const { default: ora } = await import('ora');
    const spinner = ora({ text, color: false, discardStdin: false });
    spinner.start();
    return {
      update: (next) => {
        spinner.text = next;
      },
      stop: () => {
        spinner.stop();
      },
    };
  }
  let current = text;
  const cancel = term.json
    ? () => undefined
    : clock.after(PLAIN_AFTER_MS, () => {
        stderr.write(`still waiting: ${current}\n`);
      });
  return {
    update: (next) => {
      current = next;
    },
    stop: () => {
      cancel();
    },
  };
}
