/** How quantities read: durations, sizes, counts, money. One place, so that every screen says them alike. */

/** 41 → `41ms`, 12 s → `12s`, 2 h 13 m → `2h 13m`, 9 d 2 h → `9d 02h`, from 30 days on `61d`. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))}ms`;
  const seconds = Math.floor(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60)
    return minutes < 10 && seconds % 60 > 0 ? `${minutes}m ${pad(seconds % 60)}s` : `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${pad(minutes % 60)}m`;
  const days = Math.floor(hours / 24);
  return days < 30 ? `${days}d ${pad(hours % 24)}h` : `${days}d`;
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

/** Whole days left or past, rounded down: `61d`. */
export function formatDays(ms: number): string {
  return `${Math.floor(ms / 86_400_000)}d`;
}

const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < SIZES.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${SIZES[unit] ?? ''}`;
}

/** Thousands apart by a blank: `2 595`. */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, ' ');
}

/** Cents as `4 123.45`. */
export function formatCents(cents: number): string {
  const size = Math.abs(cents);
  return `${cents < 0 ? '-' : ''}${formatCount(Math.floor(size / 100))}.${pad(size % 100)}`;
}

/** `3s ago`; `never` where there was nothing. */
export function formatAgo(at: string | null, nowMs: number): string {
  if (at === null) return 'never';
  const ms = nowMs - Date.parse(at);
  return `${formatDuration(Math.max(0, ms))} ago`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}
