/** The fault lab: every fault gives exactly its own code as the verdict, its healthy twin none, two faults the root. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Report } from '../../src/diagnose/diagnose.ts';
import { FAULTS, type Fault } from './support/faults.ts';
import { Lab, type Situation } from './support/lab.ts';

const PAGE = join(import.meta.dirname, '../../docs/faults.md');
/** Faults are mostly waiting for something that does not come. */
const AT_ONCE = 8;

async function runIn(arrange: (lab: Lab) => Promise<Situation>): Promise<Report> {
  const lab = new Lab();
  try {
    return await lab.run(await arrange(lab));
  } finally {
    await lab.close();
  }
}

/** All of them, a few at once; each test then waits for its own. */
function runAll<T>(items: readonly T[], run: (item: T) => Promise<Report>): Map<T, Promise<Report>> {
  const started = new Map<T, Promise<Report>>();
  const running: Promise<unknown>[] = [];
  for (const item of items) {
    const turn = running.length < AT_ONCE ? Promise.resolve() : running[running.length - AT_ONCE];
    const result = Promise.resolve(turn).then(() => run(item));
    running.push(result.catch(() => undefined));
    result.catch(() => undefined); // told by the test that waits for it
    started.set(item, result);
  }
  return started;
}

function told(report: Report): string {
  return report.checks
    .filter(({ status }) => status !== 'pass')
    .map(({ id, status, code, message }) => `${id} ${status} ${code ?? ''} ${message}`)
    .join('\n');
}

describe('fault lab', function () {
  this.timeout(120_000);
  let runs: Map<Fault, Promise<Report>>;
  before(() => {
    runs = runAll(FAULTS, (fault) => runIn((lab) => fault.arrange(lab)));
  });

  for (const fault of FAULTS) {
    it(`${fault.code}: ${fault.what}`, async () => {
      const report = await runs.get(fault);
      assert.ok(report !== undefined);
      assert.equal(report.verdict.code, fault.code, told(report));
      // Of its fifteen seconds; what a busy machine adds is not its own.
      assert.ok(report.summary.durationMs < 20_000, `it took ${report.summary.durationMs} ms`);
      assert.deepEqual(
        report.checks
          .filter(({ status }) => status === 'error')
          .map(({ id, message }) => `${id}: ${message}`),
        [],
      );
    });
  }
});

describe('healthy twins', () => {
  const twins: Readonly<Record<string, (lab: Lab) => Promise<Situation>>> = {
    'over TLS with an authority of the chain': async (lab) => ({ hqUrl: await lab.hq() }),
    'over plain HTTP on this machine': async (lab) => ({ hqUrl: (await lab.plainHq()).url }),
    'by address': async (lab) => ({ hqUrl: `ws://127.0.0.1:${(await lab.plainHq()).port}` }),
    'with everything that is slow or deep': async (lab) => ({
      hqUrl: await lab.hq(),
      deep: true,
      only: ['dns', 'tcp', 'tls', 'http', 'token', 'ws', 'path'],
    }),
  };
  for (const [name, arrange] of Object.entries(twins)) {
    it(`give no verdict ${name}`, async () => {
      const report = await runIn(arrange);
      assert.equal(report.verdict.code, null, told(report));
      assert.equal(told(report), '');
    });
  }
});

describe('two faults', () => {
  const find = (what: string): Fault => {
    const found = FAULTS.find((fault) => fault.what === what);
    if (found === undefined) throw new Error(`there is no fault "${what}"`);
    return found;
  };
  /** The root first; the second is laid over the first. */
  const pairs: readonly (readonly [string, string])[] = [
    ['the network cable is unplugged', 'the credential is damaged'],
    ['the name of HQ does not exist', 'the credential is gone'],
    ['nothing listens on the port of HQ', 'the disk is full'],
    ['a firewall drops the port of HQ', 'everybody may read the credential'],
    ["this store's clock is behind, so the certificate looks not valid yet", 'the credential is damaged'],
    ['the certificate is for another name', 'a rotation was interrupted'],
    ['a login page is in the way', 'the credential is damaged'],
    ['the token was revoked', 'the disk is full'],
    ['frames are swallowed', 'the disk is full'],
    ['HQ is not ready', 'everybody may read the credential'],
    ['the address of HQ is no address', 'the disk is full'],
    ['the proxy forbids the port', 'the clock is not synchronised'],
  ];
  for (const [root, other] of pairs) {
    it(`give the root: ${root}, and ${other}`, async () => {
      const report = await runIn(async (lab) => {
        const second = await find(other).arrange(lab);
        const first = await find(root).arrange(lab);
        return { ...second, ...first };
      });
      assert.equal(report.verdict.code, find(root).code, told(report));
    });
  }

  it('of one path: a revoked token behind a proxy that removes the upgrade is a token first', async () => {
    const report = await runIn(async (lab) => {
      const hqUrl = await lab.hq({
        token: { status: 401, code: 'PS-TOKEN-REVOKED' },
        upgrade(_request, socket) {
          socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
          return true;
        },
      });
      return { hqUrl };
    });
    assert.equal(report.verdict.code, 'PS-TOKEN-REVOKED', told(report));
  });
});

describe('docs/faults.md', () => {
  it('lists exactly the faults of the lab', () => {
    const rows = FAULTS.map(({ what, how, code }) => `| ${what} | ${how} | \`${code}\` |`);
    const wanted = [
      '# Faults and verdicts',
      '',
      `Each of these ${FAULTS.length} faults is made on loopback by \`test/diagnose/lab.test.ts\`, with real sockets, files and a`,
      'real DNS server; `possync diagnose` must name exactly this code as its verdict, and none when nothing is wrong.',
      'Written by that test (`UPDATE_DOCS=1 npx mocha test/diagnose/lab.test.ts`).',
      '',
      '| what is broken | how the lab makes it | verdict |',
      '| --- | --- | --- |',
      ...rows,
      '',
    ].join('\n');
    if (process.env.UPDATE_DOCS === '1') writeFileSync(PAGE, wanted);
    assert.equal(readFileSync(PAGE, 'utf8'), wanted);
  });
});
