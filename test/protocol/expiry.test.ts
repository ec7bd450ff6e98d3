/** When the end of a credential or a certificate is worth a warning, and when a daemon renews. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { expiryWarning } from '../../src/protocol/expiry.ts';
import { renewalAt } from '../../src/store/renewal.ts';

const DAY = 86_400_000;
const at = (days: number): string => new Date(days * DAY).toISOString();

describe('expiry', () => {
  it('of a credential is worth a warning in its last quarter, 14 days at most; then it has expired', () => {
    const codeAt = (now: number, life: number): string | undefined =>
      expiryWarning('credential', at(0), at(life), now * DAY)?.code;
    assert.equal(codeAt(350, 365), undefined);
    assert.equal(codeAt(351.5, 365), 'PS-TOKEN-EXPIRING');
    assert.equal(codeAt(7, 10), undefined);
    assert.equal(codeAt(7.6, 10), 'PS-TOKEN-EXPIRING');
    assert.equal(codeAt(10, 10), 'PS-TOKEN-EXPIRED');
    assert.equal(expiryWarning('credential', at(0), null, 1e15), null);
  });

  it('of a certificate is worth one in its last third, 30 days at most, also where its beginning is unknown', () => {
    assert.equal(expiryWarning('certificate', at(0), at(365), 330 * DAY), null);
    assert.equal(expiryWarning('certificate', at(0), at(365), 336 * DAY)?.code, 'PS-TLS-EXPIRING');
    assert.equal(expiryWarning('certificate', at(0), at(90), 59 * DAY), null);
    assert.equal(expiryWarning('certificate', null, at(365), 336 * DAY)?.code, 'PS-TLS-EXPIRING');
    assert.equal(expiryWarning('certificate', at(0), at(1), 2 * DAY)?.code, 'PS-TLS-EXPIRED');
  });

  it('of a credential: its daemon renews after two thirds less a twentieth at most, always before any warning', () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 1, max: 4_000 }), (kid, days) => {
        const due = renewalAt(kid, 0, days * DAY) / (days * DAY);
        assert.ok(due > 2 / 3 - 1 / 20 - 1e-9 && due <= 2 / 3);
        assert.equal(due, renewalAt(kid, 0, days * DAY) / (days * DAY), 'the same every time');
        assert.equal(expiryWarning('credential', at(0), at(days), due * days * DAY), null);
      }),
    );
  });

  it('of stores enrolled on one day: their renewals are spread', () => {
    const due = Array.from({ length: 200 }, (_, n) => renewalAt(`KID${n}`, 0, 365 * DAY) / DAY);
    assert.ok(Math.max(...due) - Math.min(...due) > 12, 'over more than twelve days');
  });
});
