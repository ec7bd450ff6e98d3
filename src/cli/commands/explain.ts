/** `possync explain CODE`: the entry of the code table; made for a store whose internet is down. */
import { ERRORS, EXIT, isErrorCode, PossyncError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import type { Answer, Context } from '../context.ts';
import type { Args } from '../args.ts';

export function run(_context: Context, args: Args): Promise<Answer> {
  const code = args.at(0).toUpperCase();
  if (!isErrorCode(code)) {
    const close = nearest(code, Object.keys(ERRORS));
    throw new PossyncError('PS-USAGE', `there is no code ${code}`, {
      hint: close === undefined ? 'list them with: possync help codes' : `did you mean ${close}?`,
    });
  }
  const { exit, retry, hint } = ERRORS[code];
  return Promise.resolve({
    schema: 'possync.explain/1',
    exit: EXIT.ok,
    body: { code, exit, retry, hint },
    text: (paint) =>
      `${paint.bold(code)}\n  Fix    ${hint}\n  Exit   ${exit}\n  Retry  ${RETRY_WORDS[retry]}\n`,
  });
}

const RETRY_WORDS = {
  soon: 'by itself, at once',
  slow: 'by itself, with growing pauses of up to 15 s',
  minutes: 'by itself, every few minutes; a person must act first',
  never: 'not by itself',
} as const;
