/** What HQ shows on its local port: the document of `status --json`, and a page in which no text of others is alive. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import http from 'node:http';
import { addStore } from '../../src/hq/stores/stores.ts';
import { TestHq, TestStore } from '../support/chain.ts';
import { possync } from '../support/cli.ts';
import { until } from '../support/until.ts';

const HOSTILE = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202e&amp;`;

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
}

/** With headers of its own: fetch does not let a Host through. */
async function get(url: string, headers: Record<string, string> = {}): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    http
      .get(url, { headers, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
        });
      })
      .on('error', reject);
  });
}

describe('what HQ shows on its local port', function () {
  this.timeout(60_000);
  let hq: TestHq;
  let store: TestStore;
  let url: string;

  before(async () => {
    hq = await TestHq.open('dashboard', { metricsListen: { host: '127.0.0.1', port: 0 } });
    url = hq.running.watchUrl ?? assert.fail('no local port');
    await addStore(hq.pool, { code: 'A-NEW', name: HOSTILE, timeZone: 'UTC' }, 'test');
    store = await TestStore.open(hq, 'B-GREEN');
    const cut = await TestStore.open(hq, 'C-RED');
    await store.untilLight('green');
    await cut.untilLight('green');
    await cut.close();
    await until(async () => (await hq.light(cut.id)) === 'red' && (await hq.light(store.id)) === 'green', {
      what: 'one store is red at HQ and one green',
    });
  });
  after(async () => {
    await store.close();
    await hq.close();
  });

  /** Without what changes between two looks: ages and moments. */
  const still = (text: string): unknown =>
    JSON.parse(text, (key, value: unknown) => (/(_at|_ms|^as_of|^since)$/.test(key) ? null : value));

  const codes = (text: string): string[] =>
    (JSON.parse(text) as { stores: { code: string }[] }).stores.map(({ code }) => code);

  for (const [flags, query] of [
    [[], ''],
    [['--red'], '?red=1'],
    [['--store', 'B-*', 'A-NEW', '--sort', 'store'], '?store=B-*&store=A-NEW&sort=store'],
    [['--behind', '10d'], '?behind=10d'],
  ] as const)
    it(`says at /api/v1/status${query} what \`status --json ${flags.join(' ')}\` says`, async () => {
      await until(
        async () => {
          const { stdout } = await possync(['status', '--json', ...flags], {
            env: { DATABASE_URL: hq.database.url },
          });
          const { status, text } = await get(`${url}/api/v1/status${query}`);
          assert.equal(status, 200);
          assert.deepEqual(still(text), still(stdout));
          return true;
        },
        { what: 'both say the same' },
      );
    });

  it('has red first, and with its filters what they say', async () => {
    assert.deepEqual(codes((await get(`${url}/api/v1/status`)).text), ['C-RED', 'B-GREEN', 'A-NEW']);
    assert.deepEqual(codes((await get(`${url}/api/v1/status?red=1`)).text), ['C-RED']);
    for (const wrong of ['behind=soon', 'sort=size', `store=${'x'.repeat(101)}`])
      assert.equal((await get(`${url}/api/v1/status?${wrong}`)).status, 400);
  });

  it('shows a page whose store with a hostile name is text and nothing else', async () => {
    const { status, text, headers } = await get(`${url}/`);
    assert.equal(status, 200);
    assert.match(headers['content-type'] ?? '', /^text\/html; charset=utf-8$/);
    assert.ok(
      text.includes(
        '&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;&lt;img src=x onerror=alert(2)&gt;\ufffd&amp;amp;',
      ),
    );
    // Every tag is one of the page's own, with attributes of the page's own.
    const tags = [...text.matchAll(/<\/?([a-z0-9]+)([^<>]*)>/gi)];
    for (const [, name, attributes] of tags) {
      assert.ok(TAGS.has(name ?? ''), `<${name}>`);
      for (const [, attribute] of (attributes ?? '').matchAll(/([a-z-]+)="[^"]*"/gi))
        assert.ok(ATTRIBUTES.has(attribute ?? ''), `${attribute} in <${name}>`);
    }
    assert.equal((text.match(/</g) ?? []).length, tags.length + 1, 'no bracket but of tags and the doctype');
  });

  it('lets the page use nothing but its own style, and bring nothing from elsewhere', async () => {
    const { text, headers } = await get(`${url}/`);
    const policy = String(headers['content-security-policy']);
    const [, style = ''] = /<style>([^]*?)<\/style>/.exec(text) ?? [];
    const hash = createHash('sha256').update(style).digest('base64');
    assert.ok(style.length > 100 && policy.includes(`style-src 'sha256-${hash}';`), policy);
    assert.match(policy, /^default-src 'none';/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(text, /style="|https?:\/\/|@import|url\(/);
    assert.match(text, /<meta http-equiv="refresh" content="10"/);
  });

  it('says why a store is red and what to do, in the first row', async () => {
    const { text } = await get(`${url}/`);
    const [first = ''] = /<tbody>[^]*?<\/tr>/.exec(text) ?? [];
    assert.match(first, /<b>C-RED<\/b>/);
    assert.match(first, /○ disconnected/);
    assert.match(first, /\(PS-[A-Z-]+\)/);
    assert.match(first, /fix: [a-z]/);
    assert.match(text, /● 1 store of 2 connected/);
  });

  it('shows neither page nor document to who comes by a name of elsewhere, as a rebound web page would', async () => {
    for (const path of ['/', '/api/v1/status', '/metrics']) {
      const { status, text } = await get(`${url}${path}`, { host: 'evil.example:9464' });
      assert.equal(status, 421);
      assert.ok(!text.includes('C-RED'));
    }
  });

  it('on an address of the network gives /metrics, and the revenue to nobody', async () => {
    const other = await TestHq.open('dashboard_wide', { metricsListen: { host: '0.0.0.0', port: 0 } });
    try {
      const { port } = new URL(other.running.watchUrl ?? '');
      const named = { host: 'hq.example:9464' };
      assert.equal((await get(`http://127.0.0.1:${port}/metrics`, named)).status, 200);
      for (const path of ['/', '/api/v1/status'])
        assert.equal((await get(`http://127.0.0.1:${port}${path}`, named)).status, 403);
      assert.equal((await get(`http://127.0.0.1:${port}/`)).status, 200, 'from this machine it is shown');
    } finally {
      await other.close();
    }
  });

  it('says on the page that the database is away, and asks again', async () => {
    await hq.pool.query('alter table possync.head rename to head_hidden');
    try {
      const answer = await until(
        async () => {
          const seen = await get(`${url}/`);
          return seen.status === 503 ? seen : undefined;
        },
        { what: 'the page says that HQ cannot say how it stands' },
      );
      assert.match(answer.text, /PS-[A-Z-]+/);
      assert.match(answer.text, /http-equiv="refresh"/);
      assert.doesNotMatch(answer.text, /● connected/);
    } finally {
      await hq.pool.query('alter table possync.head_hidden rename to head');
    }
  });
});

const TAGS = new Set(
  'html head meta title style body h1 p span small nav a div table thead tbody tr th td b br time'.split(' '),
);
const ATTRIBUTES = new Set('lang charset name content http-equiv class href datetime'.split(' '));
