import assert from 'node:assert/strict';
import { readPage, writePage } from '../../src/protocol/page.ts';

const HEAD = {
  from: 10,
  to: 12,
  head: 20,
  closing: false,
  nonce: '00000000-0000-7000-8000-00000000000a',
  sealedAt: 1,
  rows: 2,
};
const LINES = 'product\t["a"]\t11\t{}\nproduct\t["b"]\t12\t\\N\n';
const read = (head: object, lines = LINES, from = 10): ReturnType<typeof readPage> =>
  readPage(Buffer.from(`${JSON.stringify({ ...HEAD, ...head })}\n${lines}`), from);

describe('a page on the wire', () => {
  it('is read as it was written', () => {
    const page = readPage(Buffer.from(writePage(HEAD, LINES)), 10);
    assert.ok(typeof page !== 'string');
    const { lines, ...head } = page;
    assert.deepEqual([head, lines.toString()], [HEAD, LINES]);
  });

  it('may have no lines, and needs no time', () => {
    const page = read({ from: 20, to: 20, closing: true, rows: 0, sealedAt: undefined }, '', 20);
    assert.ok(typeof page !== 'string');
  });

  for (const [what, head, lines] of [
    ['it goes on from somewhere else', { from: 9 }],
    ['its last line is behind its end', {}, LINES.replace('12', '13')],
    ['it ends behind the head', { to: 21 }],
    ['it closes before the head', { closing: true }],
    ['it announces lines and has none', {}, ''],
    ['it has lines and announces none', { rows: 0 }],
    ['its last line has no position', {}, 'product\n'],
    ['the position of its last line is no number', {}, 'product\t["a"]\t0x0b\t{}\n'],
    ['it says no nonce', { nonce: undefined }],
    ['it counts less than nothing', { rows: -1 }],
  ] as const)
    it(`is refused when ${what}`, () => {
      assert.equal(typeof read(head, lines), 'string');
    });

  it('is refused when it is something else, however long', () => {
    for (const body of [
      '',
      '\n',
      'null\n',
      '<html>\n',
      '{}',
      'x'.repeat(1_000_000),
      `${' '.repeat(3_000)}{}\n`,
    ])
      assert.equal(typeof readPage(Buffer.from(body), 0), 'string', body.slice(0, 20));
  });
});
