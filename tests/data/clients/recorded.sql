# What tools send that do not run here. "# name" begins a tool; "~" before a statement: only its columns are compared
# (values differ by nature); packets of several statements stand on one line. From MariaDB Connector/J 3 on they are not recorded, but written by hand.
# MySQL Connector/J 9
/* mysql-connector-j-9.1.0 (Revision: x) */SELECT  @@session.auto_increment_increment AS auto_increment_increment, @@character_set_client AS character_set_client, @@character_set_connection AS character_set_connection, @@character_set_results AS character_set_results, @@character_set_server AS character_set_server, @@collation_server AS collation_server, @@collation_connection AS collation_connection, @@init_connect AS init_connect, @@interactive_timeout AS interactive_timeout, @@license AS license, @@lower_case_table_names AS lower_case_table_names, @@max_allowed_packet AS max_allowed_packet, @@net_write_timeout AS net_write_timeout, @@performance_schema AS performance_schema, @@sql_mode AS sql_mode, @@system_time_zone AS system_time_zone, @@time_zone AS time_zone, @@tx_isolation AS transaction_isolation, @@wait_timeout AS wait_timeout
SET character_set_results = NULL
/* ping */ SELECT 1
SELECT name, code FROM lab.Star WHERE starId < 12 ORDER BY starId
SET sql_select_limit=3
SELECT objectId FROM hip.Object ORDER BY objectId
SET sql_select_limit=DEFAULT
SET character_set_results = utf8mb4
SET SESSION TRANSACTION READ ONLY
SELECT @@session.tx_read_only
SET SESSION TRANSACTION READ WRITE
SET autocommit=0
SELECT COUNT(*) FROM hip.Object
COMMIT
SET autocommit=1
# MySQL ODBC
SET NAMES utf8mb4
SET SQL_AUTO_IS_NULL = 0
SELECT DATABASE()
SELECT * FROM `hip`.`Object` LIMIT 0
~SHOW KEYS FROM `hip`.`Object`
SHOW TABLES FROM `lab`
SHOW TABLE STATUS FROM `lab` LIKE 'nosuch'
SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'lab' AND TABLE_NAME = 'Star' ORDER BY ORDINAL_POSITION
SET @@sql_select_limit=DEFAULT
KILL /*!50000 QUERY */ 999999
# MySQL 8 command line
select $$
select @@version_comment limit 1
~select USER()
# Tableau
SET NAMES utf8
~SELECT CONNECTION_ID()
DROP TABLE `hip`.`#Tableau_1_1_Connect_NotThere`
DROP TABLE IF EXISTS `own_replays`.`#Tableau_sid_1`
CREATE TEMPORARY TABLE `own_replays`.`#Tableau_sid_1` (`COL` INTEGER)
DROP TABLE `own_replays`.`#Tableau_sid_1`
SELECT TABLE_NAME, TABLE_COMMENT, IF(TABLE_TYPE='BASE TABLE', 'TABLE', TABLE_TYPE), TABLE_SCHEMA FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA LIKE 'lab' AND (TABLE_TYPE='BASE TABLE' OR TABLE_TYPE='VIEW') ORDER BY TABLE_SCHEMA, TABLE_NAME
SELECT `A`.`REFERENCED_TABLE_SCHEMA` AS PKTABLE_CAT, `A`.`REFERENCED_TABLE_NAME` AS PKTABLE_NAME FROM `INFORMATION_SCHEMA`.`KEY_COLUMN_USAGE` A JOIN `INFORMATION_SCHEMA`.`KEY_COLUMN_USAGE` D ON (A.`REFERENCED_TABLE_SCHEMA`=D.TABLE_SCHEMA AND A.REFERENCED_TABLE_NAME=D.TABLE_NAME AND A.`REFERENCED_COLUMN_NAME`=D.COLUMN_NAME) WHERE D.CONSTRAINT_NAME='PRIMARY' AND A.TABLE_SCHEMA = 'hip' AND A.TABLE_NAME = 'Object'
SELECT SUM(1) AS `cnt:Star:ok`, `Star`.`kind` AS `kind` FROM `lab`.`Star` GROUP BY 2 ORDER BY 2
SELECT `Star`.`kind` AS `kind` FROM `lab`.`Star` GROUP BY 1 ORDER BY `kind` ASC
SELECT MIN(`Star`.`d`) AS `TEMP(min)`, MAX(`Star`.`d`) AS `TEMP(max)` FROM `lab`.`Star` HAVING (COUNT(1) > 0)
SELECT * FROM (SELECT starId, d FROM lab.Star WHERE starId < 5) `Custom SQL Query` ORDER BY 1 LIMIT 0
# Power BI
~SHOW VARIABLES
~SHOW COLLATION
SELECT TIMEDIFF(NOW(), UTC_TIMESTAMP())
SET NAMES utf8mb4
SHOW DATABASES LIKE 'lab'
select `$Table`.`starId` as `starId`, `$Table`.`name` as `name` from `lab`.`Star` as `$Table` where `$Table`.`starId` < 9 order by 1 limit 4096
SELECT `rows`.`kind` AS `kind`, SUM(`rows`.`d`) AS `a0` FROM (SELECT `kind`, `d` FROM `lab`.`Star`) `rows` GROUP BY `kind` ORDER BY 1
# DBeaver
/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW ENGINES
/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW CHARSET
~/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW COLLATION
~/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW PLUGINS
~/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW TABLE STATUS FROM `lab`
~/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW FULL PROCESSLIST
~/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW VARIABLES LIKE 'lower_case_%'
/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW FULL TABLES FROM `lab`
/* ApplicationName=DBeaver 24.0.0 - Metadata */ SHOW CREATE TABLE `lab`.`Star`
/* ApplicationName=DBeaver 24.0.0 - Metadata */ SELECT * FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA='lab'
/* ApplicationName=DBeaver 24.0.0 - SQLEditor <Script.sql> */ SELECT starId, name FROM lab.Star s ORDER BY starId LIMIT 0, 200
/* ApplicationName=DBeaver 24.0.0 - Main */ SELECT DATABASE()
/* ApplicationName=DBeaver 24.0.0 - Main */ EXPLAIN SELECT 1
# MySQL Workbench
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ
~SHOW SESSION STATUS LIKE 'Ssl_cipher'
~SHOW SESSION VARIABLES LIKE 'lower_case_table_names'
SET SQL_SAFE_UPDATES=1
~SELECT CONNECTION_ID()
SELECT starId, name FROM lab.Star ORDER BY starId LIMIT 0, 1000
SHOW FULL COLUMNS FROM `lab`.`Visit`
~SHOW INDEX FROM `lab`.`Visit`
# Metabase
/* conn1 */ SET @@session.time_zone = '+02:00'
-- Metabase:: userID: 1 queryType: MBQL queryHash: x
SELECT DATE(`lab`.`Star`.`dt`) AS `dt`, COUNT(*) AS `count` FROM `lab`.`Star` GROUP BY DATE(`lab`.`Star`.`dt`) ORDER BY DATE(`lab`.`Star`.`dt`) ASC
SELECT count(distinct `lab`.`Star`.`name`) AS `count` FROM `lab`.`Star`
SELECT SUBSTRING(`lab`.`Star`.`txt`, 1, 1234) AS `s` FROM `lab`.`Star` WHERE starId < 20 ORDER BY starId LIMIT 10000
SET @@session.time_zone = 'SYSTEM'
# Superset
~SELECT CONNECTION_ID()
SELECT `kind` AS `kind`, COUNT(*) AS `count` FROM `lab`.`Star` WHERE `dt` >= STR_TO_DATE('2024-01-01 00:00:00.000000', '%Y-%m-%d %H:%i:%s.%f') GROUP BY `kind` ORDER BY `count` DESC, kind LIMIT 1000
DESCRIBE `lab`.`select * from Star`
KILL CONNECTION 999999
# Grafana
SELECT TABLE_NAME FROM information_schema.tables WHERE table_schema = 'lab' AND table_type='BASE TABLE' ORDER BY table_name
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'lab' AND table_name = 'Star' ORDER BY column_name
SELECT UNIX_TIMESTAMP(dt) DIV 10 * 10 AS "time", AVG(d) AS value FROM lab.Star WHERE dt BETWEEN FROM_UNIXTIME(1709200000) AND FROM_UNIXTIME(1709300000) GROUP BY 1 ORDER BY 1
# RMariaDB
SELECT NULL FROM `lab`.`Star` WHERE FALSE
SELECT NULL FROM `nosuch` WHERE FALSE
SELECT * FROM lab.Star WHERE (0 = 1)
SHOW TABLES
# HeidiSQL and Navicat
SELECT DATABASE(); SELECT 1; SELECT COUNT(*) FROM lab.Star
SHOW /*!50002 GLOBAL */ VARIABLES LIKE 'version_compile_machine'; SELECT starId FROM lab.Star WHERE starId = 4
SELECT 256 AS a, `DEFAULT_COLLATION_NAME` FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='lab'
SELECT LEFT(`txt`, 256), starId FROM `lab`.`Star` WHERE starId < 30 ORDER BY starId LIMIT 1000
SELECT COUNT(*) FROM lab.Star; SELECT nosuch FROM lab.Star; SELECT 3
# mariadb-dump
/*!40100 SET @@SQL_MODE='' */
/*!40103 SET TIME_ZONE='+00:00' */
/*M!100100 SET @@MAX_STATEMENT_TIME=0.000000 */
SHOW FULL TABLES FROM lab
USE lab
LOCK TABLES `Star` READ /*!32311 LOCAL */,`Band` READ /*!32311 LOCAL */
UNLOCK TABLES
START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */
SAVEPOINT sp
SELECT /*!40001 SQL_NO_CACHE */ `starId`, `name` FROM `Star` WHERE starId < 5 ORDER BY 1
ROLLBACK TO SAVEPOINT sp
RELEASE SAVEPOINT sp
COMMIT
# MariaDB Connector/J 3
set autocommit=1,sql_mode=concat(@@sql_mode,',STRICT_TRANS_TABLES'),session_track_schema=1,session_track_system_variables=concat(@@session_track_system_variables,',auto_increment_increment'),names utf8mb4
SELECT @@max_allowed_packet,@@auto_increment_increment,@@lower_case_table_names
SELECT starId, CAST(name AS CHAR) FROM lab.Star WHERE starId < 6 ORDER BY starId
set @@SQL_SELECT_LIMIT=4
SELECT starId FROM lab.Star WHERE starId > 3 ORDER BY starId
set @@SQL_SELECT_LIMIT=18446744073709551615
SELECT IF(TABLE_TYPE='BASE TABLE' or TABLE_TYPE='SYSTEM VERSIONED', 'TABLE', TABLE_TYPE) as TABLE_TYPE, TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'lab' ORDER BY TABLE_NAME
# Go (go-sql-driver)
SELECT @@max_allowed_packet
SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci
SELECT starId, name FROM lab.Star WHERE name = 'nosuch' OR starId = 7
START TRANSACTION
SELECT kind, COUNT(*) FROM lab.Star GROUP BY kind ORDER BY kind
ROLLBACK
# Rust (sqlx)
SET sql_mode=(SELECT CONCAT(@@sql_mode, ',PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION')),time_zone='+00:00',NAMES utf8mb4 COLLATE utf8mb4_unicode_ci
SELECT kind || '-' || starId AS both_of FROM lab.Star WHERE starId < 9 ORDER BY starId
SELECT MIN(dt), MAX(kind || 'x') FROM lab.Star
SELECT UNIX_TIMESTAMP(dt) FROM lab.Star WHERE starId < 30 ORDER BY starId
# .NET (MySqlConnector)
SELECT CONNECTION_ID() > 0, VERSION()
SET NAMES utf8mb4
SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION
SELECT starId, d, dt FROM `lab`.`Star` WHERE starId BETWEEN 3 AND 8 ORDER BY starId
COMMIT
# Django
SELECT VERSION(), @@sql_mode, @@default_storage_engine, @@sql_auto_is_null, @@lower_case_table_names, CONVERT_TZ('2001-01-01 01:00:00', 'UTC', 'UTC') IS NOT NULL
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED
SELECT (1) AS `a` FROM `lab`.`Star` WHERE `lab`.`Star`.`name` LIKE BINARY '%a%' LIMIT 1
SELECT COUNT(*) AS `__count` FROM `lab`.`Star` WHERE NOT (`lab`.`Star`.`kind` = 'qso' AND `lab`.`Star`.`kind` IS NOT NULL)
SELECT COUNT(*) FROM (SELECT DISTINCT `lab`.`Star`.`kind` AS `col1` FROM `lab`.`Star`) subquery
SELECT `TABLE_NAME`, `TABLE_TYPE`, `TABLE_COMMENT` FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'lab' ORDER BY 1
# Rails
SET NAMES utf8mb4, @@SESSION.sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'), @@SESSION.sql_auto_is_null = 0, @@SESSION.wait_timeout = 2147483
SHOW FULL FIELDS FROM `lab`.`Star`
SELECT 1 AS one FROM `lab`.`Star` WHERE `lab`.`Star`.`starId` = 4 LIMIT 1
SELECT `lab`.`Star`.`starId`, `lab`.`Star`.`kind` FROM `lab`.`Star` ORDER BY `lab`.`Star`.`starId` DESC LIMIT 3
SELECT COUNT(*) FROM (SELECT 1 AS one FROM `lab`.`Star` LIMIT 5) subquery_for_count
# PHP (PDO)
SET NAMES utf8mb4
SELECT starId, kind FROM lab.Star WHERE starId = '5' AND kind <> 'nosuch' LIMIT 0, 30
SET SESSION sql_mode = 'ANSI_QUOTES,TRADITIONAL'
SELECT "starId" AS "id" FROM "lab"."Star" WHERE "starId" < 5 ORDER BY "id"
SELECT "nosuch" FROM "lab"."Star"
