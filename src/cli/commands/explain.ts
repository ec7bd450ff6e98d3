/** `possync explain CODE`: its page of the runbook; made for a store whose network is down. */
import { ERRORS, EXIT, isErrorCode, PossyncError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import type { Answer, Context } from '../context.ts';
import type { Args } from '../args.ts';
import { readRunbook } from '../runbook.ts';

export async function run(_context: Context, args: Args): Promise<Answer> {
  const code = args.at(0).toUpperCase();
  if (!isErrorCode(code)) {
    const close = nearest(code, Object.keys(ERRORS));
    throw new PossyncError('PS-USAGE', `there is no code ${code}`, {
      hint: close === undefined ? 'list them with: possync help codes' : `did you mean ${close}?`,
    });
  }
  const { exit, retry, hint } = ERRORS[code];
  const page = (await readRunbook()).get(code);
  const label = (text: string): string => `  ${text.padEnd(15)}`;
  const steps = page?.steps ?? [];
  return {
    schema: 'possync.explain/1',
    exit: EXIT.ok,
    body: {
      code,
      meaning: page?.meaning ?? null,
      hint,
      who: page?.who ?? null,
      steps,
      meanwhile: page?.meanwhile ?? null,
      how_we_know: page?.how ?? null,
      exit,
      retry,
    },
    text: ({ bold, glyphs }) =>
      [
        `${bold(code)}${page === undefined ? '' : ` ${glyphs.dash} ${plain(page.meaning)}`}`,
        ...(page === undefined
          ? [`${label('Fix')}${hint}`]
          : [
              `${label('Who fixes it')}${page.who}`,
              ...steps.map((step, index) => `  ${index + 1}  ${plain(step)}`),
              `${label('Meanwhile')}${page.meanwhile}.`,
              `${label('How we know')}${plain(page.how)}.`,
            ]),
        `${label('Retry')}${RETRY_WORDS[retry]}`,
        `${label('Exit code')}${exit}`,
        '',
      ].join('\n'),
  };
}

/** Markdown's marks of code are for readers of the page. */
function plain(text: string): string {
  return text.replaceAll('`', '');
}

const RETRY_WORDS = {
  soon: 'by itself, at once',
  slow: 'by itself, with growing pauses of up to 15 s',
  minutes: 'by itself, every few minutes; a person must act first',
  never: 'not by itself',
} as const;
