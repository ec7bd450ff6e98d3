/** A database as people may see it: never its password. */

export function databaseName(url: string | undefined): string {
  if (url === undefined) return 'from PGHOST, PGDATABASE …';
  try {
    const { hostname, port, pathname } = new URL(url);
    return `postgres://${hostname}${port === '' ? '' : `:${port}`}${pathname}`;
  } catch {
    return '[DATABASE_URL]';
  }
}
