/* The script with MariaDB Connector/J: text and server-prepared statements, fetch size, metadata, batches, cancel. */
import java.nio.file.*;
import java.sql.*;
import java.util.*;

public class Jdbc {
    static final Map<String, String> SQL = new LinkedHashMap<>();
    static final String DB = System.getenv("DB");

    static String url(String options) {
        String ca = System.getenv("CA");
        String tls = ca.isEmpty() ? "useSsl=false" : "useSsl=true&serverSslCert=" + ca;
        return "jdbc:mariadb://" + System.getenv("HOST") + ":" + System.getenv("PORT") + "/hip?" + tls + options;
    }

    static Connection connect(String options) throws SQLException {
        return DriverManager.getConnection(url(options), System.getenv("DBUSER"), System.getenv("PASSWORD"));
    }

    static void say(String step, Object value) {
        System.out.println(step + "\t" + String.valueOf(value).replace("\n", "\\n").replace("\t", "\\t"));
    }

    static String shown(Object value) {
        if (value == null) return "NULL";
        if (value instanceof byte[]) return "bytes " + HexFormat.of().formatHex((byte[]) value);
        if (value instanceof Blob) {
            try {
                Blob blob = (Blob) value;
                return "blob " + HexFormat.of().formatHex(blob.getBytes(1, (int) blob.length()));
            } catch (SQLException error) { throw new IllegalStateException(error); }
        }
        return value.getClass().getSimpleName() + " " + value;
    }

    static String rows(ResultSet rows, boolean described, Set<String> left) throws SQLException {
        ResultSetMetaData meta = rows.getMetaData();
        StringBuilder out = new StringBuilder();
        for (int i = 1; described && i <= meta.getColumnCount(); i++)
            out.append(meta.getColumnLabel(i)).append(' ').append(meta.getColumnTypeName(i)).append(' ')
               .append(meta.getColumnDisplaySize(i)).append(' ').append(meta.getPrecision(i)).append(' ')
               .append(meta.getScale(i)).append(' ').append(meta.isNullable(i)).append(' ')
               .append(meta.isSigned(i)).append(' ').append(meta.getTableName(i)).append("; ");
        while (rows.next()) {
            out.append(" | ");
            for (int i = 1; i <= meta.getColumnCount(); i++) {
                if (left.contains(meta.getColumnLabel(i))) continue;
                Object value;
                try { value = meta.getColumnTypeName(i).equals("TIME") ? rows.getString(i) : rows.getObject(i); }
                catch (SQLException error) { value = "unreadable"; }
                out.append(shown(value)).append(", ");
            }
        }
        rows.close();
        return out.toString();
    }

    static String ask(Connection connection, String sql, Object... values) throws SQLException {
        if (values.length == 0) {
            try (Statement statement = connection.createStatement()) {
                return statement.execute(sql) ? rows(statement.getResultSet(), true, Set.of()) : "" + statement.getUpdateCount();
            }
        }
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
            return statement.execute() ? rows(statement.getResultSet(), true, Set.of()) : "" + statement.getUpdateCount();
        }
    }

    static void metadata(Connection connection) throws SQLException {
        DatabaseMetaData meta = connection.getMetaData();
        say("server", meta.getDatabaseProductName() + " " + meta.getDatabaseProductVersion());
        say("catalogs", rows(meta.getCatalogs(), false, Set.of()));
        say("tables", rows(meta.getTables("lab", null, "%", null), true, Set.of()));
        say("columns", rows(meta.getColumns("lab", null, "Star", "%"), true, Set.of()));
        say("keys", rows(meta.getIndexInfo("hip", null, "Object", false, true), true, Set.of("CARDINALITY")));
        say("primary", rows(meta.getPrimaryKeys(DB, null, "kinds"), true, Set.of()));
        say("imported", rows(meta.getImportedKeys("hip", null, "Object"), true, Set.of()));
        say("table types", rows(meta.getTableTypes(), false, Set.of()));
        say("privileges", rows(meta.getTablePrivileges("hip", null, "Object"), false, Set.of()));
        say("valid", connection.isValid(5));
    }

    static void streamed(Connection connection) throws SQLException {
        long before = used(), most = 0, count = 0, keys = 0;
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(1000);
            ResultSet rows = statement.executeQuery(SQL.get("stream"));
            while (rows.next()) {
                count++;
                keys += rows.getLong(1);
                if (count % 100000 == 0) most = Math.max(most, used() - before);
            }
        }
        say("stream", count + " " + keys + " " + (most < 40L << 20));
    }

    static long used() {
        System.gc();
        return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
    }

    static String failure(SQLException error) {
        return error.getErrorCode() + " " + error.getSQLState() + " " + error.getClass().getSimpleName() + " "
            + error.getMessage().replaceAll("\\(conn=\\d+\\)", "");
    }

    static void cancelled(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread thread = new Thread(() -> {
                try { Thread.sleep(400); statement.cancel(); } catch (Exception error) { say("cancel failed", error); }
            });
            thread.start();
            long begun = System.nanoTime();
            try { statement.executeQuery(SQL.get("slow")); say("cancel", "not cancelled"); }
            catch (SQLException error) {
                say("cancel", error.getErrorCode() + " " + error.getSQLState() + " " + (System.nanoTime() - begun < 4e9));
            }
            thread.join();
        }
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            try { statement.executeQuery(SQL.get("slow")); say("timeout", "not cancelled"); }
            catch (SQLException error) { say("timeout", error.getErrorCode() + " " + error.getSQLState()); }
        }
        try (Statement statement = connection.createStatement()) {
            statement.setMaxRows(7);
            say("most rows", rows(statement.executeQuery("SELECT objectId FROM hip.Object ORDER BY objectId"), false, Set.of()));
        }
        say("afterwards", ask(connection, "SELECT 1"));
    }

    static void own(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        for (String step : List.of("inside", "change")) say(step, ask(connection, SQL.get(step)));
        connection.rollback();
        connection.setAutoCommit(true);
        say("after", ask(connection, SQL.get("after")));
        for (String step : List.of("temporary", "temporary_fill", "temporary_read")) say(step, ask(connection, SQL.get(step)));
        ask(connection, "CREATE TABLE " + DB + ".batch (a INT, b VARCHAR(20))");
        try (PreparedStatement batch = connection.prepareStatement("INSERT INTO " + DB + ".batch VALUES (?, ?)")) {
            for (int i = 0; i < 500; i++) { batch.setInt(1, i); batch.setString(2, "row '" + i); batch.addBatch(); }
            say("batch", batch.executeBatch().length);
        }
        say("batch read", ask(connection, "SELECT COUNT(*), SUM(a), MAX(b) FROM " + DB + ".batch"));
        ask(connection, SQL.get("warned"));
        say("warnings", ask(connection, SQL.get("warnings")));
        try (Statement statement = connection.createStatement()) {
            statement.executeQuery(SQL.get("warned"));
            SQLWarning warning = statement.getWarnings();
            say("getWarnings", warning == null ? "none" : warning.getErrorCode() + " " + warning.getMessage());
        }
    }

    static void several() throws SQLException {
        try (Connection connection = connect("&allowMultiQueries=true"); Statement statement = connection.createStatement()) {
            StringBuilder out = new StringBuilder();
            boolean more = statement.execute("SELECT 1; SELECT COUNT(*) FROM hip.Object; SET @a = 3; SELECT @a");
            while (more || statement.getUpdateCount() != -1) {
                out.append(more ? rows(statement.getResultSet(), true, Set.of()) : "update " + statement.getUpdateCount()).append(" / ");
                more = statement.getMoreResults();
            }
            say("several", out);
        }
        try (Connection connection = connect("&useCompression=true")) {
            say("compressed", ask(connection, SQL.get("typed")));
        }
    }

    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(System.getenv("SCRIPT")))) {
            String[] parts = line.split("\t", 2);
            SQL.put(parts[0], parts[1]);
        }
        try (Connection connection = connect("")) {
            ask(connection, "DROP DATABASE IF EXISTS " + DB);
            ask(connection, "CREATE DATABASE " + DB + " CHARACTER SET utf8mb4");
            for (String step : List.of("own_make", "own_fill")) ask(connection, SQL.get(step));
            metadata(connection);
            for (String step : List.of("typed", "every", "merged", "own_read", "create")) say(step, ask(connection, SQL.get(step)));
            say("parameters", ask(connection, SQL.get("parameters"), 3, 7L, "12", "a b"));
            streamed(connection);
            cancelled(connection);
            for (String step : SQL.keySet())
                if (step.startsWith("error_"))
                    try { say(step, ask(connection, SQL.get(step))); } catch (SQLException error) { say(step, failure(error)); }
            own(connection);
        }
        try (Connection connection = connect("&useServerPrepStmts=true")) {
            for (String step : List.of("typed", "every", "merged", "own_read"))
                try (PreparedStatement statement = connection.prepareStatement(SQL.get(step))) {
                    for (int round = 0; round < 2; round++) say("server " + step + round, rows(statement.executeQuery(), true, Set.of()));
                }
            say("server parameters", ask(connection, SQL.get("parameters"), 3, 7L, "12", "a b"));
            say("server parameters merged", ask(connection, SQL.get("parameters_merged"), -500.5, Timestamp.valueOf("2024-02-29 12:34:30")));
            say("server parameters typed", ask(connection, "SELECT starId FROM lab.Star WHERE day > ? AND d < ? AND big = ? ORDER BY starId",
                java.sql.Date.valueOf("2015-01-01"), new java.math.BigDecimal("100.5"), 7));
        }
        several();
        try (Connection connection = connect("")) { ask(connection, "DROP DATABASE " + DB); }
    }
}
