/** The dashboard and the status document over HTTP, for whoever sits on this machine: they show the day's revenue. */
import { parseDuration } from '../../config/codecs.ts';
import { toPossyncError } from '../../core/classify.ts';
import type { Clock } from '../../core/clock.ts';
import { PossyncError } from '../../core/errors.ts';
import { errorBody, type Asker, type Handler, type Reply } from '../../core/local-http.ts';
import type { HqStatusView } from '../../protocol/status.ts';
import { ofStores, selectStores, SORTS, type StatusSelection } from '../status-select.ts';
import { statusDocument } from '../status.ts';
import { dashboardPage, failurePage, PAGE_HEADERS } from './page.ts';

const PATTERNS_MAX = 20;
const PATTERN_LENGTH = 100;

export function statusRoutes(status: () => Promise<HqStatusView>, clock: Clock): [string, Handler][] {
  return [
    [
      'GET /api/v1/status',
      async ({ searchParams }, _body, asker) => {
        if (!asker.here) return elsewhere();
        const { patterns, selection } = askedFor(searchParams);
        const view = patterns.length === 0 ? await status() : ofStores(await status(), patterns);
        const nowMs = clock.now();
        // The light of the document is that of the stores asked about, not of those that the list is cut to.
        return {
          status: 200,
          body: { ...statusDocument(view, nowMs), stores: selectStores(view, selection, nowMs).stores },
        };
      },
    ],
    ['GET /', (url, _body, asker) => dashboard(url, asker, status, clock)],
  ];
}

async function dashboard(
  { searchParams }: URL,
  asker: Asker,
  status: () => Promise<HqStatusView>,
  clock: Clock,
): Promise<Reply> {
  if (!asker.here) return elsewhere();
  const { patterns, selection } = askedFor(searchParams);
  const nowMs = clock.now();
  try {
    const all = await status();
    const view = patterns.length === 0 ? all : ofStores(all, patterns);
    return asPage(200, dashboardPage(selectStores(view, selection, nowMs), nowMs));
  } catch (error) {
    const { code, message, hint } = toPossyncError(error);
    return asPage(503, failurePage(code, message, hint, nowMs));
  }
}

function asPage(status: 200 | 503, body: string): Reply {
  return { status, body, type: 'text/html; charset=utf-8', headers: PAGE_HEADERS };
}

function elsewhere(): Reply {
  const error = new PossyncError('PS-USAGE', 'the status of HQ is shown on this machine only', {
    hint: 'reach it through a tunnel: ssh -L 9464:127.0.0.1:9464 HQ; then open http://127.0.0.1:9464/',
  });
  return { status: 403, body: errorBody(error) };
}

/** The flags of `possync status`, as a query: ?red=1&behind=10m&store=00*&sort=oldest. */
function askedFor(query: URLSearchParams): { patterns: readonly string[]; selection: StatusSelection } {
  const patterns = query.getAll('store');
  if (patterns.length > PATTERNS_MAX || patterns.some(({ length }) => length > PATTERN_LENGTH))
    throw new PossyncError('PS-USAGE', 'too many or too long patterns');
  const behind = query.get('behind');
  const behindMs = behind === null ? undefined : parseDuration(behind);
  if (behind !== null && behindMs === undefined)
    throw new PossyncError('PS-USAGE', 'behind must be a duration such as 90s or 10m');
  const sort = query.get('sort') ?? 'trouble';
  const known = SORTS.find((word) => word === sort);
  if (known === undefined) throw new PossyncError('PS-USAGE', `sort must be ${SORTS.join(', ')}`);
  return { patterns, selection: { red: query.get('red') === '1', behindMs, sort: known } };
}
