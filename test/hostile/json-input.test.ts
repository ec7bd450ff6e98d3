/** The look at JSON before it is parsed: the same values as JSON.parse for what is in order, and a named refusal else. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { PossyncError } from '../../src/core/errors.ts';
import { parseJson } from '../../src/hq/json-input.ts';
import { runSeed } from '../support/random.ts';

const BOUNDS = { depth: 10, tokens: 2_000 };

function refusal(text: string | Buffer): string | undefined {
  try {
    parseJson(Buffer.from(text), BOUNDS);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof PossyncError && error.code === 'PS-PROTOCOL', String(error));
    return error.message;
  }
}

describe('JSON from outside', () => {
  it('is what JSON.parse makes of it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5, stringUnit: 'grapheme' }), fc.nat(3), (value, indent) => {
        const text = JSON.stringify(value, undefined, indent);
        if (text.includes('\\u0000')) assert.equal(refusal(text), 'the body holds a NUL');
        else
          assert.deepEqual(parseJson(Buffer.from(text), { depth: 20, tokens: 1_000_000 }), JSON.parse(text));
      }),
      { seed: runSeed, numRuns: 500 },
    );
  });

  it('is refused by name, or by JSON.parse, whatever bytes come', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        refusal(Buffer.from(bytes));
      }),
      { seed: runSeed, numRuns: 2_000 },
    );
  });

  it('names what is wrong with it', () => {
    const cases: readonly (readonly [string | Buffer, RegExp | undefined])[] = [
      ['{"a":"\\ud83d\\ude00 \\\\u0000 \\" \\\\"}', undefined],
      ['{"a":"\\u0000"}', /NUL/],
      ['{"a":"\\ud800"}', /surrogate/],
      ['{"a":"\\ud800x\\udc00"}', /surrogate/],
      ['{"a":"\\udc00"}', /surrogate/],
      ['{"\\uD800":1}', /surrogate/],
      [Buffer.from([0x22, 0xff, 0x22]), /UTF-8/],
      [Buffer.from('"\ud800"', 'utf16le'), /UTF-8|not JSON/],
      [`${'['.repeat(11)}${']'.repeat(11)}`, /deeper than 10/],
      [`["${'['.repeat(1_000)}"]`, undefined],
      [`[${'0,'.repeat(2_000)}0]`, /more than 2000 parts/],
      ['["\\', /not JSON/],
      ['{"a":1', /not JSON/],
      ['', /not JSON/],
    ];
    for (const [text, wanted] of cases) {
      const said = refusal(text);
      if (wanted === undefined) assert.equal(said, undefined, String(text).slice(0, 60));
      else assert.match(said ?? 'taken', wanted, String(text).slice(0, 60));
    }
  });

  it('does not grow: what a bomb of empty arrays would become is never made', () => {
    const bomb = Buffer.from(`[${'[],'.repeat(10_000_000)}[]]`);
    const before = process.memoryUsage().heapUsed;
    assert.match(refusal(bomb) ?? '', /parts/);
    assert.ok(process.memoryUsage().heapUsed - before < 20_000_000);
  });
});
