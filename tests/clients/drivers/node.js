// The script with node's mysql2 or mariadb: text and prepared statements, streaming, cancel, several results.
"use strict";
const fs = require("fs");
const path = require("path");
const name = process.argv[2];
const modules = process.argv[3];
const { HOST, PORT, DBUSER, PASSWORD, DB, CA, SCRIPT } = process.env;
const SQL = Object.fromEntries(
  fs.readFileSync(SCRIPT, "utf8").trimEnd().split("\n").map((line) => [line.slice(0, line.indexOf("\t")), line.slice(line.indexOf("\t") + 1)])
);

function shown(key, value) {
  if (value && value.type === "Buffer") return "buffer " + Buffer.from(value.data).toString("hex");
  if (typeof value === "bigint") return "bigint " + value;
  return value;
}
const say = (step, value) => console.log(step + "\t" + JSON.stringify(value === undefined ? "undefined" : value, shown));
const tls = CA ? { ca: fs.readFileSync(CA), checkServerIdentity: () => undefined } : undefined;
const options = { host: HOST, port: Number(PORT), user: DBUSER, password: PASSWORD, database: "hip", ssl: tls };

async function connect(extra = {}) {
  if (name === "mysql2")
    return require(path.join(modules, "mysql2/promise")).createConnection({ ...options, supportBigNumbers: true, dateStrings: true, multipleStatements: true, ...extra });
  const mariadb = await import(require("url").pathToFileURL(path.join(modules, "mariadb", "promise.js")));
  return (mariadb.default || mariadb).createConnection({ ...options, dateStrings: true, multipleStatements: true, checkDuplicate: false, ...extra });
}

const described = (columns) =>
  columns && (Array.isArray(columns[0]) ? columns.flat() : columns).map((c) => c && (typeof c.name === "function"
    ? [c.name(), c.type, c.columnLength, c.scale, c.flags, c.table(), c.collation && c.collation.name]
    : [c.name, c.columnType, c.columnLength, c.decimals, c.flags, c.table, c.characterSet]));

async function ask(connection, sql, values, prepared) {
  if (name === "mysql2") {
    const [rows, fields] = prepared ? await connection.execute(sql, values) : await connection.query(sql, values);
    return [described(fields), rows];
  }
  const rows = prepared ? await connection.execute(sql, values) : await connection.query(sql, values);
  return [described(rows.meta && (Array.isArray(rows.meta) ? rows.meta : [])), rows];
}

const failure = (error) => [error.errno, error.sqlState, error.code, (error.sqlMessage || "").replace(/\(conn.*?\)/g, "").slice(0, 200)];

function streamed(connection) {
  return new Promise((resolve, reject) => {
    global.gc();
    const before = process.memoryUsage().rss;
    let rows = 0, keys = 0n, most = 0;
    const stream = name === "mysql2"
      ? connection.connection.query(SQL.stream).stream({ highWaterMark: 100 })
      : connection.queryStream(SQL.stream);
    stream.on("data", (row) => {
      rows++;
      keys += BigInt(row.detectionId);
      if (rows % 50000 === 0) most = Math.max(most, process.memoryUsage().rss - before);
    });
    stream.on("end", () => resolve([rows, String(keys), most < 150 << 20 || `grew by ${most}`]));
    stream.on("error", reject);
  });
}

async function cancelled(connection) {
  const victim = connection.threadId;
  const other = await connect();
  setTimeout(() => other.query("KILL QUERY " + victim), 300);
  try { await ask(connection, SQL.slow); say("cancel", "not cancelled"); }
  catch (error) { say("cancel", failure(error).slice(0, 3)); }
  await other.end();
  say("afterwards", await ask(connection, "SELECT 1"));
}

async function main() {
  const connection = await connect();
  await ask(connection, "DROP DATABASE IF EXISTS " + DB);
  await ask(connection, "CREATE DATABASE " + DB + " CHARACTER SET utf8mb4");
  for (const step of ["own_make", "own_fill"]) await ask(connection, SQL[step]);
  say("databases", await ask(connection, SQL.databases));
  for (const sql of ["SHOW FULL TABLES FROM lab", "SHOW FULL COLUMNS FROM lab.Star", "DESCRIBE hip.Object"]) say(sql, await ask(connection, sql));
  for (const step of ["typed", "every", "merged", "own_read", "create"]) {
    say(step, await ask(connection, SQL[step]));
    if (step !== "create") for (const round of [1, 2]) say(`prepared ${step} ${round}`, await ask(connection, SQL[step], [], true));
  }
  say("parameters", await ask(connection, SQL.parameters, [3, 7, 12, "a b"]));
  say("prepared parameters", await ask(connection, SQL.parameters, [3, 7, "12", "a b"], true));
  say("prepared merged", await ask(connection, SQL.parameters_merged, [-500.5, "2024-02-29 12:34:30"], true));
  say("stream", await streamed(connection));
  await cancelled(connection);
  for (const step of Object.keys(SQL).filter((step) => step.startsWith("error_"))) {
    try { say(step, await ask(connection, SQL[step])); } catch (error) { say(step, failure(error)); }
    try { say("prepared " + step, await ask(connection, SQL[step], [], true)); } catch (error) { say("prepared " + step, failure(error)); }
  }
  await connection.beginTransaction();
  say("inside", await ask(connection, SQL.inside));
  await ask(connection, SQL.change);
  await connection.rollback();
  say("after", await ask(connection, SQL.after));
  for (const step of ["temporary", "temporary_fill", "temporary_read"]) say(step, await ask(connection, SQL[step]));
  await ask(connection, SQL.warned);
  say("warnings", await ask(connection, SQL.warnings));
  say("several", (await ask(connection, "SELECT 1; SELECT COUNT(*) FROM hip.Object; SELECT 2"))[1]);
  await ask(connection, "DROP DATABASE " + DB);
  await connection.end();
  const packed = await connect({ compress: true });
  say("compressed", await ask(packed, SQL.typed));
  await packed.end();
  const changed = await connect();
  if (changed.changeUser) {
    await changed.changeUser({ user: DBUSER, password: PASSWORD, database: "lab" });
    say("changed user", await ask(changed, "SELECT DATABASE(), COUNT(*) FROM lab.Star"));
  }
  if (changed.reset) { await changed.reset(); say("reset", await ask(changed, "SELECT DATABASE()")); }
  await changed.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
