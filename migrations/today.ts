/** SQL text, used by a migration of each side: what day it is in a time zone. */

/** A zone that PostgreSQL does not know (plain SQL may write any) counts as UTC, and fails nothing. */
export const TODAY_IN = `
create function possync.today_in(zone text) returns date language plpgsql stable
  set search_path = pg_catalog, pg_temp as $$
begin
  return (now() at time zone zone)::date;
exception when invalid_parameter_value then
  return (now() at time zone 'UTC')::date;
end $$;
`;
