/** Names and constants inside generated SQL: the only way a name of the entity table gets into a statement. */

/** An identifier, quoted: `"order"`, `"odd ""name"""`. */
export function ident(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A table of the applications, which all live in the schema `public`. */
export function publicTable(name: string): string {
  return `public.${ident(name)}`;
}

/** A text constant: for generated functions and triggers, which take no parameters. */
export function literal(text: string): string {
  const doubled = text.replaceAll("'", "''");
  return doubled.includes('\\') ? `E'${doubled.replaceAll('\\', '\\\\')}'` : `'${doubled}'`;
}

/** Columns behind an alias, for a select list: `r."id", r."sku"`. */
export function columnsOf(alias: string, columns: readonly string[]): string {
  return columns.map((column) => `${alias}.${ident(column)}`).join(', ');
}

/** A function body between dollar quotes that the body itself cannot close. */
export function dollarQuoted(body: string): string {
  let tag = '$possync$';
  for (let n = 0; body.includes(tag); n += 1) tag = `$possync${n}$`;
  return `${tag}\n${body}\n${tag}`;
}
