-- name: count
SELECT COUNT(*) FROM hip.Object
-- name: count where
SELECT COUNT(*) AS n FROM hip.Object WHERE vmag < 6.5
-- name: point
SELECT * FROM hip.Object WHERE objectId = 32349
-- name: point in
SELECT objectId, ra, decl, vmag, bv FROM hip.Object WHERE objectId IN (1, 2, 3, 999999999)
-- name: point text key
SELECT * FROM lab.Ref WHERE refId = 'R5'
-- name: point no such
SELECT * FROM hip.Object WHERE objectId = -1
-- name: light curve [ordered]
SELECT detectionId, mjd, band, flux, fluxErr FROM hip.Detection WHERE objectId = 32349 ORDER BY mjd
-- name: light curves
SELECT d.objectId, d.mjd, d.flux FROM hip.Detection d WHERE d.objectId IN (1, 2, 3, 4)
-- name: alias table
SELECT o.objectId AS id, o.vmag magnitude FROM hip.Object AS o WHERE o.vmag < 1
-- name: expressions
SELECT objectId + 1, vmag * 2 - 1, CONCAT('HIP ', objectId), ROUND(ra, 2), -decl FROM hip.Object WHERE vmag < 1
-- name: null tests
SELECT objectId, bv FROM hip.Object WHERE bv IS NULL AND objectId < 30000
-- name: not null and between
SELECT objectId FROM hip.Object WHERE bv IS NOT NULL AND vmag BETWEEN 1 AND 2.5
-- name: or and not
SELECT objectId FROM hip.Object WHERE (vmag < 0.5 OR objectId = 7) AND NOT bv > 1
-- name: case if coalesce
SELECT objectId, CASE WHEN bv > 1 THEN 'red' WHEN bv IS NULL THEN 'none' ELSE 'blue' END c, IF(vmag < 1, 1, 0), COALESCE(bv, 9) FROM hip.Object WHERE vmag < 1.5
-- name: like and regexp
SELECT starId, name FROM lab.Star WHERE name LIKE 'a%' OR name REGEXP '^x'
-- name: like escape
SELECT starId, name FROM lab.Star WHERE name LIKE '%!%%' ESCAPE '!'
-- name: not in not like
SELECT starId FROM lab.Star WHERE starId NOT IN (1, 2, 3) AND name NOT LIKE 'a%' AND starId < 30
-- name: all types
SELECT * FROM lab.Star
-- name: all types ordered [ordered]
SELECT * FROM lab.Star ORDER BY starId
-- name: invisible columns
SELECT chunkId, subChunkId, starId FROM lab.Star WHERE starId < 50
-- name: count by chunk
SELECT chunkId, COUNT(*) FROM lab.Star GROUP BY chunkId
-- name: one chunk
SELECT COUNT(*) FROM hip.Object WHERE chunkId = 330
-- name: group few
SELECT kind, COUNT(*), SUM(small), AVG(small), MIN(d), MAX(d) FROM lab.Star GROUP BY kind
-- name: group collation
SELECT COUNT(*) FROM lab.Star GROUP BY name
-- name: group latin1
SELECT COUNT(*), MAX(starId) FROM lab.Star GROUP BY code
-- name: group float
SELECT f, COUNT(*) FROM lab.Star GROUP BY f
-- name: group set
SELECT flags, COUNT(*) FROM lab.Star GROUP BY flags
-- name: group time [ordered]
SELECT t, COUNT(*) FROM lab.Star GROUP BY t ORDER BY t
-- name: group enum order [ordered]
SELECT kind, COUNT(*) n FROM lab.Star GROUP BY kind ORDER BY kind DESC
-- name: group expression [ordered]
SELECT FLOOR(decl / 30) * 30 AS zone, COUNT(*) AS n FROM hip.Object GROUP BY zone ORDER BY zone
-- name: group position [ordered]
SELECT YEAR(day), COUNT(*) FROM lab.Star GROUP BY 1 ORDER BY 1
-- name: group two
SELECT kind, g, COUNT(*), SUM(d) FROM lab.Star GROUP BY kind, g
-- name: min max all types
SELECT MIN(LENGTH(name)), MAX(HEX(name)), MIN(f), MAX(f), MIN(day), MAX(t), MAX(dt), MIN(y), MAX(kind), MIN(big), MAX(big), MIN(b) FROM lab.Star
-- name: sum avg types [approx]
SELECT SUM(f), AVG(f), SUM(d), AVG(d), SUM(big), AVG(big), SUM(small), AVG(small) FROM lab.Star
-- name: sum over nothing
SELECT SUM(d), COUNT(*), COUNT(d), MIN(d), AVG(d) FROM lab.Star WHERE starId < 0
-- name: sum where false
SELECT SUM(d), COUNT(*) FROM lab.Star WHERE FALSE
-- name: group over nothing
SELECT kind, COUNT(*) FROM lab.Star WHERE starId < 0 GROUP BY kind
-- name: arithmetic around [approx]
SELECT 10 * SUM(small), ROUND(100 * COUNT(d) / COUNT(*), 1), MAX(d) - MIN(d), SUM(f) / COUNT(*), COUNT(*) / 7 FROM lab.Star
-- name: having
SELECT g, COUNT(*) AS n FROM lab.Star GROUP BY g HAVING n > 50 AND AVG(small) IS NOT NULL
-- name: having not selected
SELECT g FROM lab.Star GROUP BY g HAVING SUM(small) > 0
-- name: order by aggregate [ordered]
SELECT COUNT(*), MIN(starId) FROM lab.Star WHERE name IS NOT NULL GROUP BY name ORDER BY COUNT(*) DESC, MIN(starId) LIMIT 3
-- name: distinct
SELECT DISTINCT kind FROM lab.Star
-- name: distinct two [ordered]
SELECT DISTINCT kind, g FROM lab.Star ORDER BY kind, g
-- name: count distinct
SELECT COUNT(DISTINCT name), COUNT(DISTINCT kind, g), COUNT(DISTINCT starId), SUM(DISTINCT small), AVG(DISTINCT small) FROM lab.Star
-- name: count distinct key
SELECT COUNT(DISTINCT objectId) FROM hip.Detection WHERE band = 'g'
-- name: order limit [ordered]
SELECT objectId, vmag FROM hip.Object ORDER BY vmag, objectId LIMIT 10
-- name: order limit offset [ordered]
SELECT objectId, vmag FROM hip.Object ORDER BY vmag DESC, objectId LIMIT 5, 7
-- name: order expression [ordered]
SELECT objectId FROM hip.Object WHERE vmag < 2 ORDER BY ABS(decl), objectId
-- name: order alias [ordered]
SELECT objectId, vmag + IFNULL(bv, 0) AS total FROM hip.Object WHERE vmag < 2 ORDER BY total DESC, 1
-- name: order not selected [ordered]
SELECT name FROM lab.Star ORDER BY starId LIMIT 20
-- name: order nulls [ordered]
SELECT starId, d FROM lab.Star ORDER BY d, starId
-- name: limit zero
SELECT * FROM hip.Object LIMIT 0
-- name: star twice [ordered]
SELECT *, starId FROM lab.Star ORDER BY starId LIMIT 3
-- name: dependent join
SELECT o.objectId, o.vmag, d.mjd, d.flux FROM hip.Object o JOIN hip.Detection d ON o.objectId = d.objectId WHERE o.vmag < 0.1 AND d.band = 'r'
-- name: dependent join using
SELECT COUNT(*) FROM hip.Object JOIN hip.Detection USING (objectId) WHERE vmag < 3
-- name: dependent comma
SELECT o.objectId, COUNT(*) FROM hip.Object o, hip.Detection d WHERE o.objectId = d.objectId AND o.vmag < 1 GROUP BY o.objectId
-- name: left join
SELECT s.starId, v.visitId, v.flux FROM lab.Star s LEFT JOIN lab.Visit v ON s.starId = v.starId WHERE s.starId < 60
-- name: left join is null
SELECT COUNT(*) FROM lab.Star s LEFT JOIN lab.Visit v ON s.starId = v.starId WHERE v.visitId IS NULL
-- name: right join
SELECT COUNT(*), COUNT(v.visitId) FROM lab.Visit v RIGHT JOIN lab.Star s ON s.starId = v.starId
-- name: self join key
SELECT COUNT(*) FROM lab.Visit a JOIN lab.Visit b ON a.starId = b.starId AND a.visitId < b.visitId
-- name: replicated join [approx]
SELECT f.name, COUNT(*) n, AVG(d.flux) FROM hip.Detection d JOIN hip.Filter f ON d.band = f.band WHERE d.objectId < 500 GROUP BY f.name
-- name: replicated left join
SELECT v.band, b.label, COUNT(*) FROM lab.Visit v LEFT JOIN lab.Band b ON v.band = b.band GROUP BY v.band, b.label
-- name: two replicated
SELECT b.label, l.v, COUNT(*) FROM lab.Star s JOIN lab.Visit v ON v.starId = s.starId JOIN lab.Band b ON b.band = v.band JOIN lab.Lut l ON l.n = s.g GROUP BY b.label, l.v
-- name: replicated alone
SELECT * FROM hip.Filter ORDER BY band
-- name: match alone [approx]
SELECT COUNT(*), AVG(dist) FROM lab.StarRef WHERE dist < 0.5
-- name: match rows
SELECT * FROM lab.StarRef
-- name: match first
SELECT s.starId, s.name, m.dist FROM lab.Star s JOIN lab.StarRef m ON s.starId = m.starId WHERE m.dist < 0.3
-- name: match second
SELECT r.refId, r.mag, m.dist FROM lab.Ref r JOIN lab.StarRef m ON r.refId = m.refId WHERE m.dist < 0.3
-- name: match both
SELECT s.starId, r.refId, m.dist, s.ra, r.lon FROM lab.Star s JOIN lab.StarRef m ON s.starId = m.starId JOIN lab.Ref r ON r.refId = m.refId
-- name: match both, a region of the second
SELECT s.starId, r.refId FROM lab.Star s JOIN lab.StarRef m ON s.starId = m.starId JOIN lab.Ref r ON r.refId = m.refId WHERE scisql_s2PtInCircle(r.lon, r.lat, 1, 0, 2) = 1
-- plain:
SELECT s.starId, r.refId FROM lab.Star s JOIN lab.StarRef m ON s.starId = m.starId JOIN lab.Ref r ON r.refId = m.refId WHERE r.lat BETWEEN -2 AND 2 AND POW(SIN(RADIANS(r.lon - 1) / 2), 2) * COS(RADIANS(r.lat)) + POW(SIN(RADIANS(r.lat) / 2), 2) <= POW(SIN(RADIANS(1)), 2)
-- name: match both, a box of the second at the pole
SELECT s.starId, r.refId FROM lab.Star s JOIN lab.StarRef m ON s.starId = m.starId JOIN lab.Ref r ON r.refId = m.refId WHERE r.lat > 89.7 AND r.lon BETWEEN 10 AND 200
-- name: match both, a box of the second
SELECT s.starId, r.refId FROM lab.Star s JOIN lab.StarRef m ON s.starId = m.starId JOIN lab.Ref r ON r.refId = m.refId WHERE r.lat BETWEEN 17.6 AND 18.05
-- name: match both grouped
SELECT s.kind, COUNT(*), MAX(r.mag) FROM lab.StarRef m JOIN lab.Star s ON s.starId = m.starId JOIN lab.Ref r ON r.refId = m.refId GROUP BY s.kind
-- name: match left
SELECT s.starId, m.refId FROM lab.Star s LEFT JOIN lab.StarRef m ON s.starId = m.starId WHERE s.starId < 100
-- name: match sample both
SELECT COUNT(*), SUM(o.objectId), SUM(b.brightId) FROM hip.Object o JOIN hip.ObjectBright m ON o.objectId = m.objectId JOIN hip.Bright b ON b.brightId = m.brightId
-- name: group by key [ordered]
SELECT objectId, COUNT(*) AS n, MIN(mjd) FROM hip.Detection WHERE objectId < 400 GROUP BY objectId HAVING n > 15 ORDER BY n DESC, objectId LIMIT 10
-- name: box by comparisons
SELECT COUNT(*) FROM hip.Object WHERE ra BETWEEN 10 AND 20 AND decl BETWEEN -5 AND 5
-- name: latitude comparison
SELECT COUNT(*) FROM hip.Object WHERE decl > 85 OR decl <= -88
-- name: circle
SELECT objectId FROM hip.Object WHERE scisql_s2PtInCircle(ra, decl, 56.75, 24.12, 1) = 1
-- plain:
SELECT objectId FROM hip.Object WHERE DEGREES(ACOS(LEAST(1, SIN(RADIANS(decl))*SIN(RADIANS(24.12)) + COS(RADIANS(decl))*COS(RADIANS(24.12))*COS(RADIANS(ra-56.75))))) <= 1
-- name: circle pole
SELECT COUNT(*) AS n FROM hip.Object WHERE qserv_areaspec_circle(0, 90, 2)
-- plain:
SELECT COUNT(*) AS n FROM hip.Object WHERE decl >= 88
-- name: circle not
SELECT COUNT(*) AS n FROM hip.Object WHERE NOT scisql_s2PtInCircle(ra, decl, 0, 90, 2)
-- plain:
SELECT COUNT(*) AS n FROM hip.Object WHERE decl < 88
-- name: circle is zero
SELECT COUNT(*) AS n FROM hip.Object WHERE scisql_s2PtInCircle(ra, decl, 0, 90, 2) = 0
-- plain:
SELECT COUNT(*) AS n FROM hip.Object WHERE decl < 88
-- name: box wraps
SELECT COUNT(*) AS n FROM hip.Object WHERE qserv_areaspec_box(350, -10, 10, 10)
-- plain:
SELECT COUNT(*) AS n FROM hip.Object WHERE (ra >= 350 OR ra <= 10) AND decl BETWEEN -10 AND 10
-- name: box and circle in parentheses
SELECT COUNT(*) AS n FROM hip.Object WHERE (scisql_s2PtInBox(ra, decl, 350, -10, 10, 10)) = 1 AND 1 = ((scisql_s2PtInCircle(ra, decl, 0, 0, 90)))
-- plain:
SELECT COUNT(*) AS n FROM hip.Object WHERE (ra >= 350 OR ra <= 10) AND decl BETWEEN -10 AND 10
-- name: two boxes
SELECT COUNT(*) AS n FROM hip.Object WHERE scisql_s2PtInBox(ra, decl, 0, 0, 10, 10) = 1 OR scisql_s2PtInBox(ra, decl, 100, 0, 110, 10) = 1
-- plain:
SELECT COUNT(*) AS n FROM hip.Object WHERE (ra BETWEEN 0 AND 10 OR ra BETWEEN 100 AND 110) AND decl BETWEEN 0 AND 10
-- name: region on other columns
SELECT COUNT(*) AS n FROM hip.Object WHERE scisql_s2PtInBox(decl + 100, vmag, 50, 0, 150, 5) = 1
-- plain:
SELECT COUNT(*) AS n FROM hip.Object WHERE decl + 100 BETWEEN 50 AND 150 AND vmag BETWEEN 0 AND 5
-- name: area join
SELECT COUNT(*) AS n FROM hip.Object o JOIN hip.Detection d USING (objectId) WHERE qserv_areaspec_box(40, 0, 42, 2) AND d.band = 'g'
-- plain:
SELECT COUNT(*) AS n FROM hip.Object o JOIN hip.Detection d USING (objectId) WHERE o.ra BETWEEN 40 AND 42 AND o.decl BETWEEN 0 AND 2 AND d.band = 'g'
-- name: cone by separation
SELECT objectId FROM hip.Object WHERE scisql_angSep(ra, decl, 83.8, -5.4) < 0.5
-- plain:
SELECT objectId FROM hip.Object WHERE DEGREES(2*ASIN(SQRT(POW(SIN(RADIANS(decl+5.4)/2),2)+COS(RADIANS(decl))*COS(RADIANS(-5.4))*POW(SIN(RADIANS(ra-83.8)/2),2)))) < 0.5
-- name: near neighbours
SELECT a.objectId AS i, b.objectId AS j FROM hip.Object a, hip.Object b WHERE scisql_angSep(a.ra, a.decl, b.ra, b.decl) < 0.05 AND a.objectId < b.objectId AND a.decl > 86
-- plain:
SELECT a.objectId AS i, b.objectId AS j FROM hip.Object a, hip.Object b WHERE a.decl > 86 AND b.decl BETWEEN a.decl - 0.05 AND a.decl + 0.05 AND 2*ASIN(SQRT(POW(SIN(RADIANS(b.decl-a.decl)/2),2)+COS(RADIANS(a.decl))*COS(RADIANS(b.decl))*POW(SIN(RADIANS(b.ra-a.ra)/2),2))) < RADIANS(0.05) AND a.objectId < b.objectId
-- name: near neighbours equator
SELECT COUNT(*) AS n, SUM(a.objectId) AS s FROM hip.Object a JOIN hip.Object b ON ((scisql_angSep(a.ra, a.decl, b.ra, b.decl))) < 0.1 AND a.objectId <> b.objectId WHERE a.decl BETWEEN -10.04 AND -9.96
-- plain:
SELECT COUNT(*) AS n, SUM(a.objectId) AS s FROM hip.Object a JOIN hip.Object b ON b.decl BETWEEN a.decl - 0.1 AND a.decl + 0.1 AND 2*ASIN(SQRT(POW(SIN(RADIANS(b.decl-a.decl)/2),2)+COS(RADIANS(a.decl))*COS(RADIANS(b.decl))*POW(SIN(RADIANS(b.ra-a.ra)/2),2))) < RADIANS(0.1) AND a.objectId <> b.objectId WHERE a.decl BETWEEN -10.04 AND -9.96
-- name: near neighbours poles
SELECT a.starId AS i, b.refId AS j FROM lab.Star a, lab.Ref b WHERE scisql_angSep(b.lon, b.lat, a.ra, a.decl) <= 0.9
-- plain:
SELECT a.starId AS i, b.refId AS j FROM lab.Star a, lab.Ref b WHERE 2*ASIN(SQRT(POW(SIN(RADIANS(b.lat-a.decl)/2),2)+COS(RADIANS(a.decl))*COS(RADIANS(b.lat))*POW(SIN(RADIANS(b.lon-a.ra)/2),2))) <= RADIANS(0.9)
-- name: flux functions [approx]
SELECT scisql_nanojanskyToAbMag(flux) AS m, scisql_nanojanskyToAbMagSigma(flux, fluxErr) AS s FROM hip.Detection WHERE objectId = 5
-- plain:
SELECT -2.5e0*LOG10(flux)+31.4e0 AS m, IF(fluxErr < 0, NULL, 1.0857362047581296e0*fluxErr/flux) AS s FROM hip.Detection WHERE objectId = 5
-- name: comments and case
/* lead */ select /*! sql_no_cache */ Count(*) from hip.Object -- tail
-- name: executable comment
SELECT /*!40001 SQL_NO_CACHE */ COUNT(*) FROM hip.Object /*!99999 nonsense */
-- name: quoted names
SELECT `o`.`objectId` AS `select` FROM `hip`.`Object` AS `o` WHERE `o`.`vmag` < 0
-- name: string literals
SELECT 'it''s', "dq", 'a\'b\\c\n', x'4142', 0x43, b'01', _latin1'x', N'y', DATE '2020-01-01' FROM lab.Star WHERE starId = 1
-- name: dates
SELECT starId, DATE_FORMAT(dt, '%Y-%m'), dt + INTERVAL 1 DAY, EXTRACT(YEAR FROM day), TIMESTAMPDIFF(DAY, day, dt) FROM lab.Star WHERE starId < 40
-- name: casts
SELECT CAST(d AS CHAR), CAST(f AS DECIMAL(10,2)), CONVERT(name USING latin1), CAST(small AS SIGNED), TRIM(LEADING 'a' FROM name) FROM lab.Star WHERE starId < 40
-- name: nonaggregated column
SELECT COUNT(*), MAX(day) FROM lab.Star WHERE g = 1 GROUP BY g
-- name: rollup
SELECT kind, COUNT(*), SUM(d) FROM lab.Star GROUP BY kind WITH ROLLUP
-- name: unknown column [errno=1054]
SELECT nosuch FROM hip.Object
-- name: unknown table [errno=1146]
SELECT * FROM hip.Nothing
-- name: unknown database [errno=1049,1146]
SELECT * FROM nodb.Object
-- name: syntax [errno=1064]
SELECT FROM WHERE hip.Object
-- name: ambiguous [errno=1052]
SELECT objectId FROM hip.Object, hip.Detection WHERE hip.Object.objectId = hip.Detection.objectId
-- name: unknown function [errno=1305]
SELECT nosuchfunction(ra) FROM hip.Object
-- name: group misuse [errno=1111]
SELECT COUNT(*) FROM hip.Object WHERE COUNT(*) > 1
-- name: nested 1
SELECT COUNT(*) FROM (SELECT starId, ra FROM lab.Star WHERE f > 0) x
-- name: nested 2
SELECT x.starId, v.flux FROM (SELECT starId, ra FROM lab.Star WHERE f > 0) x JOIN lab.Visit v ON v.starId = x.starId
-- name: nested 3
SELECT * FROM (SELECT kind, COUNT(*) n FROM lab.Star GROUP BY kind) t WHERE n > 5
-- name: nested 4
SELECT MAX(n) FROM (SELECT starId, COUNT(*) n FROM lab.Visit GROUP BY starId) t
-- name: nested 5
WITH s AS (SELECT * FROM lab.Star WHERE d > 0) SELECT kind, COUNT(*) FROM s GROUP BY kind
-- name: nested 6 [approx]
WITH a AS (SELECT kind, AVG(f) m FROM lab.Star GROUP BY kind), b AS (SELECT kind, COUNT(*) c FROM lab.Star GROUP BY kind) SELECT a.kind, m, c FROM a JOIN b ON a.kind <=> b.kind
-- name: nested 7
WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i+1 FROM n WHERE i < 10) SELECT i, (SELECT COUNT(*) FROM lab.Star WHERE g = i) FROM n
-- name: nested 8
SELECT starId FROM lab.Star WHERE f > 0 UNION SELECT starId FROM lab.Visit WHERE flux > 50
-- name: nested 9 [ordered]
SELECT starId FROM lab.Star WHERE f > 0 UNION ALL SELECT starId FROM lab.Visit WHERE flux > 50 ORDER BY starId LIMIT 20
-- name: nested 10
SELECT kind FROM lab.Star INTERSECT SELECT kind FROM lab.Star WHERE g > 3
-- name: nested 11
SELECT kind FROM lab.Star EXCEPT SELECT kind FROM lab.Star WHERE g > 3
-- name: nested 12
SELECT * FROM lab.Star s WHERE EXISTS (SELECT 1 FROM lab.Visit v WHERE v.starId = s.starId AND v.flux > 50)
-- name: nested 13
SELECT * FROM lab.Star s WHERE NOT EXISTS (SELECT 1 FROM lab.Visit v WHERE v.starId = s.starId)
-- name: nested 14
SELECT starId FROM lab.Star WHERE starId IN (SELECT starId FROM lab.Visit WHERE band = 'g')
-- name: nested 15
SELECT starId FROM lab.Star WHERE starId NOT IN (SELECT starId FROM lab.Visit WHERE band = 'g')
-- name: nested 16
SELECT starId, (SELECT COUNT(*) FROM lab.Visit v WHERE v.starId = s.starId) n FROM lab.Star s
-- name: nested 17 [approx]
SELECT starId, f FROM lab.Star WHERE f > (SELECT AVG(f) FROM lab.Star)
-- name: nested 18
SELECT starId, f FROM lab.Star WHERE (kind, f) IN (SELECT kind, MAX(f) FROM lab.Star GROUP BY kind)
-- name: nested 19
SELECT s.starId, r.refId FROM lab.Star s, lab.Ref r WHERE s.g = LENGTH(r.refId) AND s.starId < 30
-- name: nested 20 [approx]
SELECT s.kind, COUNT(*), SUM(r.mag) FROM lab.Star s JOIN lab.Ref r ON FLOOR(s.ra) = FLOOR(r.lon) GROUP BY s.kind
-- name: nested 21
SELECT a.starId, b.starId FROM lab.Star a JOIN lab.Star b ON a.g = b.g AND a.starId < b.starId WHERE a.starId < 20
-- name: nested 22
SELECT starId, ROW_NUMBER() OVER (ORDER BY starId) rn FROM lab.Star
-- name: nested 23
SELECT starId, visitId, ROW_NUMBER() OVER (PARTITION BY starId ORDER BY visitId) rn FROM lab.Visit
-- name: nested 24 [approx]
SELECT starId, flux - AVG(flux) OVER (PARTITION BY starId) FROM lab.Visit
-- name: nested 25
SELECT kind, RANK() OVER (ORDER BY COUNT(*)) FROM lab.Star GROUP BY kind
-- name: nested 26 [approx]
SELECT STD(f), VARIANCE(small), STDDEV_SAMP(d), VAR_SAMP(g) FROM lab.Star
-- name: nested 27 [approx]
SELECT kind, STD(small), VAR_POP(d) FROM lab.Star GROUP BY kind
-- name: nested 28
SELECT kind, GROUP_CONCAT(starId ORDER BY starId SEPARATOR '|') FROM lab.Star GROUP BY kind
-- name: nested 29
SELECT GROUP_CONCAT(DISTINCT kind ORDER BY kind) FROM lab.Star
-- name: nested 30
SELECT kind, JSON_ARRAYAGG(starId ORDER BY starId) FROM lab.Star WHERE starId < 50 GROUP BY kind
-- name: nested 31
SELECT JSON_OBJECTAGG(starId, f) FROM lab.Star WHERE starId = 5
-- name: nested 32
SELECT kind, COUNT(*) FROM lab.Star GROUP BY kind WITH ROLLUP
-- name: nested 33
SELECT kind, g, SUM(small) FROM lab.Star GROUP BY kind, g WITH ROLLUP
-- name: nested 34
SELECT COUNT(DISTINCT kind), COUNT(DISTINCT g, kind) FROM lab.Star
-- name: nested 35
SELECT kind, COUNT(DISTINCT g) FROM lab.Star GROUP BY kind
-- name: nested 36
SELECT BIT_AND(g), BIT_OR(g), BIT_XOR(g) FROM lab.Star
-- name: nested 37
SELECT 10*SUM(small)+1, -MAX(f), ABS(MIN(d)) / COUNT(*) FROM lab.Star
-- name: nested 38
SELECT * FROM lab.Star NATURAL JOIN lab.Visit WHERE starId < 5
-- name: nested 39
SELECT * FROM lab.Star LEFT JOIN lab.Visit USING (starId) WHERE starId < 5
-- name: nested 40
SELECT s.starId, b.label FROM lab.Star s LEFT JOIN lab.Visit v ON v.starId = s.starId LEFT JOIN lab.Band b ON b.band = v.band
-- name: nested 41
SELECT b.label, COUNT(v.visitId) FROM lab.Band b LEFT JOIN lab.Visit v ON b.band = v.band GROUP BY b.label
-- name: nested 42
SELECT * FROM lab.Band b WHERE EXISTS (SELECT 1 FROM lab.Visit v WHERE v.band = b.band AND flux > 80)
-- name: nested 43
SELECT s.starId FROM lab.Star s RIGHT JOIN lab.Ref r ON r.mag = s.f
-- name: nested 44
SELECT COUNT(*) FROM lab.Star
-- name: nested 45
SELECT COUNT(*) AS n FROM lab.Visit
-- name: nested 46 [ordered]
SELECT DISTINCT kind, g FROM lab.Star ORDER BY kind, g LIMIT 5 OFFSET 3
-- name: nested 47
SELECT g, COUNT(*) c FROM lab.Star GROUP BY g HAVING c > (SELECT AVG(c) FROM (SELECT COUNT(*) c FROM lab.Star GROUP BY g) z)
-- name: nested 48
SELECT USER() LIKE 'root@%', CURRENT_USER() LIKE 'root@%', DATABASE(), COUNT(*) FROM lab.Star WHERE g > 1
-- name: nested 49
SELECT starId FROM lab.Star ORDER BY (SELECT COUNT(*) FROM lab.Visit v WHERE v.starId = Star.starId) DESC, starId LIMIT 10
-- name: nested 50 [ordered]
SELECT s.kind, v.band, COUNT(*) FROM lab.Star s JOIN lab.Visit v USING (starId) GROUP BY s.kind, v.band ORDER BY 1, 2
-- name: nested 51
SELECT f, LAG(f) OVER (ORDER BY starId) FROM lab.Star
-- name: nested 52
SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY f) OVER (PARTITION BY kind) FROM lab.Star
-- name: nested 53 [approx]
SELECT MEDIAN(f) OVER (PARTITION BY kind) FROM lab.Star
-- name: nested 54
SELECT * FROM (SELECT starId, f, ROW_NUMBER() OVER (PARTITION BY kind ORDER BY f DESC, starId) rn FROM lab.Star) t WHERE rn <= 3
-- name: nested 55
SELECT a.n + b.n FROM (SELECT COUNT(*) n FROM lab.Star) a, (SELECT COUNT(*) n FROM lab.Ref) b
-- name: nested 56
SELECT sr.starId, s.name, r.mag FROM lab.StarRef sr JOIN lab.Star s ON s.starId = sr.starId JOIN lab.Ref r ON r.refId = sr.refId
-- name: nested 57
SELECT sr.* FROM lab.StarRef sr WHERE sr.starId IN (SELECT starId FROM lab.Star WHERE f > 0)
-- name: nested 58
SELECT starId FROM lab.Star WHERE g = ANY (SELECT n FROM lab.Lut)
-- name: nested 59
SELECT starId FROM lab.Star WHERE g > ALL (SELECT n FROM lab.Lut WHERE n < 5)
-- name: nested 60
SELECT IF(EXISTS(SELECT 1 FROM lab.Star WHERE f > 1e9), 'y', 'n')
-- name: nested 61
SELECT (SELECT COUNT(*) FROM lab.Star), (SELECT MAX(mag) FROM lab.Ref)
-- name: nested 62
SELECT * FROM lab.Star ORDER BY RAND(5) LIMIT 0
-- name: nested 63
SELECT starId, CAST(f AS CHAR), CONVERT(name USING latin1) FROM lab.Star
-- name: nested 64
SELECT CASE WHEN f > 0 THEN 'p' ELSE 'n' END s, COUNT(*) FROM lab.Star GROUP BY s
-- name: nested 65
SELECT o.objectId, d.mjd FROM hip.Object o JOIN hip.Detection d ON o.objectId = d.objectId AND d.mjd = (SELECT MAX(mjd) FROM hip.Detection x WHERE x.objectId = o.objectId) WHERE o.vmag < 2
-- name: nested 66
SELECT COUNT(*) FROM hip.Object WHERE objectId IN (SELECT objectId FROM hip.Detection GROUP BY objectId HAVING COUNT(*) > 22)
-- name: nested 67
SELECT band, COUNT(DISTINCT objectId) FROM hip.Detection GROUP BY band
-- name: parenthesised 1
SELECT s.starId, v.flux FROM (lab.Star s JOIN lab.Visit v ON v.starId = s.starId) WHERE s.starId < 50
-- name: parenthesised 2
SELECT s.starId, v.flux, b.label FROM ((lab.Star s JOIN lab.Visit v ON v.starId = s.starId) JOIN lab.Band b ON b.band = v.band) WHERE s.starId < 50
-- name: parenthesised 3
SELECT s.starId, v.flux, b.label FROM (lab.Star s LEFT JOIN lab.Visit v ON v.starId = s.starId) LEFT JOIN lab.Band b ON b.band = v.band WHERE s.starId < 50
-- name: parenthesised 4
SELECT s.starId, v.flux, b.label FROM lab.Star s LEFT JOIN (lab.Visit v JOIN lab.Band b ON b.band = v.band) ON v.starId = s.starId WHERE s.starId < 50
-- name: parenthesised 5
SELECT * FROM (lab.Star s JOIN lab.Visit v USING (starId)) JOIN lab.Band USING (band) WHERE s.starId < 20
-- name: parenthesised 6
SELECT s.starId FROM (SELECT * FROM lab.Star WHERE starId < 30) s
-- name: parenthesised 7
SELECT s.starId, r.refId FROM (lab.Star s JOIN lab.Ref r ON r.mag > s.f) WHERE s.starId < 10
-- name: joined in parentheses
SELECT s.kind, b.label, COUNT(*) FROM lab.Star s LEFT JOIN (lab.Visit v JOIN lab.Band b ON v.band = b.band) ON s.starId = v.starId GROUP BY s.kind, b.label
-- name: group by a constant
SELECT 7 AS c, kind, COUNT(DISTINCT 2000), SUM(DISTINCT 7) FROM lab.Star GROUP BY c, kind
-- name: order by constants [ordered]
SELECT DISTINCT kind, 7 AS c FROM lab.Star ORDER BY c DESC, kind LIMIT 3
-- name: largest of an enumeration [ordered]
SELECT starId, decl, MAX(kind), MIN(flags) FROM lab.Star GROUP BY starId, decl ORDER BY starId, decl
-- name: near enumeration order [ordered]
SELECT b.starId AS i, b.kind AS k FROM lab.Ref a JOIN lab.Star b ON scisql_angSep(a.lon, a.lat, b.ra, b.decl) < 0.301 ORDER BY b.kind DESC, b.starId, a.refId LIMIT 20
-- plain:
SELECT b.starId AS i, b.kind AS k FROM lab.Ref a JOIN lab.Star b ON DEGREES(2*ASIN(SQRT(POW(SIN(RADIANS(b.decl-a.lat)/2),2)+COS(RADIANS(a.lat))*COS(RADIANS(b.decl))*POW(SIN(RADIANS(b.ra-a.lon)/2),2)))) < 0.301 ORDER BY b.kind DESC, b.starId, a.refId LIMIT 20
-- name: region in one side of a union
SELECT s.big FROM lab.Star s WHERE qserv_areaspec_box(242.452, 59.786, 99.314, 77.123) UNION ALL SELECT v.n FROM lab.Visit v WHERE v.starId < 9
-- plain:
SELECT s.big FROM lab.Star s WHERE (s.ra >= 242.452 OR s.ra <= 99.314) AND s.decl BETWEEN 59.786 AND 77.123 UNION ALL SELECT v.n FROM lab.Visit v WHERE v.starId < 9
-- name: headers beside a region
SELECT CAST( s.dt AS DATE ), ( s.ra+ s.decl), COUNT( DISTINCT s.g ), (1), NULL FROM lab.Star s WHERE scisql_s2PtInBox(s.ra, s.decl, 10, -20, 300, 40) = 1 GROUP BY s.starId
-- plain:
SELECT CAST( s.dt AS DATE ), ( s.ra+ s.decl), COUNT( DISTINCT s.g ), (1), NULL FROM lab.Star s WHERE s.ra BETWEEN 10 AND 300 AND s.decl BETWEEN -20 AND 40 GROUP BY s.starId
-- name: headers after WITH
WITH q AS (SELECT starId, g FROM lab.Star WHERE scisql_s2PtInBox(ra, decl, 10, -20, 300, 40)) SELECT COUNT( DISTINCT q.g ), 7 < COUNT(*) FROM q
-- plain:
WITH q AS (SELECT starId, g FROM lab.Star WHERE ra BETWEEN 10 AND 300 AND decl BETWEEN -20 AND 40) SELECT COUNT( DISTINCT q.g ), 7 < COUNT(*) FROM q
-- name: only an invisible column
SELECT EXISTS (SELECT 1 FROM lab.Ref WHERE chunkId = q.n) FROM (SELECT COUNT(DISTINCT starId) AS n FROM lab.StarRef) q
-- name: null beside numbers in a set operation
SELECT chunkId, big FROM lab.Star WHERE starId < 9 EXCEPT SELECT chunkId, NULL FROM lab.Ref
-- name: warnings while planning are no errors
SELECT SUM(DISTINCT 0.5), COUNT(*) FROM lab.StarRef WHERE (starId, CAST('STAR' + 0 AS SIGNED)) = (1, 0)
-- name: spread unrounded inside [approx]
SELECT 1000 * STD(chunkId), VAR_SAMP(g) + 0.5e0, STD(small) FROM lab.Star
-- name: past the end of one distinct row
SELECT DISTINCT s.b, 0 FROM lab.Star s JOIN lab.Ref r ON FLOOR(s.ra) >= FLOOR(r.lon) - 400 WHERE s.starId = 144 ORDER BY 1, 2 LIMIT 5 OFFSET 7
-- name: past the end of one distinct merged row
SELECT DISTINCT kind IS NULL OR 1 AS c FROM lab.Star ORDER BY c LIMIT 5 OFFSET 1
-- name: alias like a collected column
SELECT s.day AS c1, GROUP_CONCAT(1.25 ORDER BY s.starId DESC, v.visitId) AS c4 FROM lab.Star s JOIN lab.Visit v USING (starId) GROUP BY c1
-- name: region on the kept side of a RIGHT JOIN
SELECT v.visitId, COUNT(s.flags) AS n FROM lab.Visit v RIGHT JOIN lab.Star s ON v.starId = s.starId WHERE qserv_areaspec_box(341.947, -73.327, 83.334, 80.708) GROUP BY v.visitId HAVING COUNT(DISTINCT s.d) <> 12
-- plain:
SELECT v.visitId, COUNT(s.flags) AS n FROM lab.Visit v RIGHT JOIN lab.Star s ON v.starId = s.starId WHERE (s.ra >= 341.947 OR s.ra <= 83.334) AND s.decl BETWEEN -73.327 AND 80.708 GROUP BY v.visitId HAVING COUNT(DISTINCT s.d) <> 12
-- name: union then intersect beside a region
SELECT kind FROM lab.Star WHERE g = 1 UNION SELECT kind FROM lab.Star WHERE g = 2 INTERSECT SELECT kind FROM lab.Star WHERE scisql_s2PtInBox(ra, decl, 0, -90, 180, 0) = 1
-- plain:
SELECT kind FROM lab.Star WHERE g = 1 UNION SELECT kind FROM lab.Star WHERE g = 2 INTERSECT SELECT kind FROM lab.Star WHERE ra <= 180 AND decl <= 0
-- name: various 1
SELECT STRAIGHT_JOIN s.starId FROM lab.Star s JOIN lab.Visit v ON v.starId = s.starId WHERE s.starId < 10
-- name: various 2
SELECT s.starId FROM lab.Star s FORCE INDEX (starId) WHERE s.starId < 10
-- name: various 3
SELECT * FROM lab.Star WHERE starId = 5 FOR UPDATE
-- name: various 4
SELECT * FROM lab.Star WHERE starId = 5 LOCK IN SHARE MODE
-- name: various 5 [ordered]
SELECT starId FROM lab.Star ORDER BY starId FETCH FIRST 3 ROWS ONLY
-- name: various 6 [ordered]
SELECT starId FROM lab.Star ORDER BY starId OFFSET 2 ROWS FETCH NEXT 3 ROWS ONLY
-- name: fetch first 1 [ordered]
SELECT kind, COUNT(*) FROM lab.Star GROUP BY kind ORDER BY kind FETCH FIRST 2 ROWS ONLY
-- name: fetch first 2 [ordered]
SELECT starId FROM lab.Star WHERE starId IN (SELECT m FROM (SELECT MIN(starId) AS m FROM lab.Visit GROUP BY starId ORDER BY m FETCH NEXT ROW ONLY) q) ORDER BY 1 OFFSET 0 ROWS FETCH FIRST 5 ROWS ONLY
-- name: fetch first 3 [ordered]
(SELECT starId FROM lab.Star ORDER BY 1 FETCH FIRST 3 ROWS ONLY) UNION ALL SELECT MAX(starId) FROM lab.Visit ORDER BY 1 OFFSET 1 ROW FETCH NEXT 2 ROWS ONLY
-- name: fetch first 4 [ordered]
SELECT kind FROM lab.Star ORDER BY kind DESC FETCH FIRST 2 ROWS WITH TIES
-- name: various 7
SELECT starId FROM lab.Star WHERE name COLLATE utf8mb4_bin = 'angstrom'
-- name: various 8
SELECT GROUP_CONCAT(starId ORDER BY starId LIMIT 3) FROM lab.Star
-- name: various 9
SELECT kind, GROUP_CONCAT(DISTINCT g ORDER BY g DESC SEPARATOR '') FROM lab.Star GROUP BY kind
-- name: various 10
SELECT NTILE(4) OVER (ORDER BY starId), starId FROM lab.Star
-- name: various 11
SELECT kind, COUNT(*) FROM lab.Star GROUP BY kind ORDER BY COUNT(*) DESC, kind LIMIT 2
-- name: various 12 [ordered]
SELECT ra AS decl, decl AS ra FROM lab.Star WHERE ra > 180 ORDER BY ra, decl LIMIT 5
-- name: various 13 [ordered]
SELECT starId AS x FROM lab.Star GROUP BY x HAVING x > 390 ORDER BY x
-- name: various 14 [ordered]
SELECT f+d AS z, COUNT(*) FROM lab.Star GROUP BY z ORDER BY z
-- name: various 15
SELECT COUNT(*) FROM lab.Star s JOIN lab.Star t USING (starId)
-- name: various 16
SELECT COUNT(*) FROM lab.Star s JOIN lab.Star t ON s.kind = t.kind
-- name: various 17
SELECT b.*, (SELECT COUNT(*) FROM lab.Visit v WHERE v.band = b.band) FROM lab.Band b
-- name: various 18
SELECT b.band, AVG(n) FROM lab.Band b LEFT JOIN (SELECT band, starId, COUNT(*) n FROM lab.Visit GROUP BY band, starId) t USING (band) GROUP BY b.band
-- name: various 19
SELECT starId FROM lab.Star WHERE (starId, g) IN ((1,2),(3,4),(5,1))
-- name: various 20
SELECT starId FROM lab.Star WHERE ROW(starId, 1) = ROW(5, 1)
-- name: various 21
SELECT INTERVAL(starId, 10, 100), COUNT(*) FROM lab.Star GROUP BY 1
-- name: various 22 [ordered]
SELECT DATE_FORMAT(dt, '%Y'), COUNT(*) FROM lab.Star GROUP BY 1 ORDER BY 1
-- name: various 23
SELECT MAX(day), MIN(t), MAX(dt), MIN(y) FROM lab.Star
-- name: various 24
SELECT starId, dt + INTERVAL 1 DAY, DATEDIFF(dt, day), EXTRACT(YEAR FROM dt) FROM lab.Star WHERE starId < 40
-- name: various 25
SELECT HEX(b), LENGTH(txt), CHAR_LENGTH(name) FROM lab.Star
-- name: various 26
SELECT SUM(big), AVG(big), MAX(big) FROM lab.Star
-- name: various 27
SELECT COUNT(b), COUNT(DISTINCT b), MIN(b), MAX(b) FROM lab.Star
-- name: various 29 [ordered]
SELECT starId, g FROM lab.Star ORDER BY g IS NULL, g DESC, starId LIMIT 10
-- name: various 30
SELECT EXISTS(SELECT 1 FROM lab.Star WHERE g = 99), (SELECT starId FROM lab.Star WHERE starId = -1)
-- name: various 31
SELECT 1 FROM lab.Star WHERE 1 = 0
-- name: various 32
SELECT * FROM lab.Star WHERE NULL
-- name: various 33
SELECT COUNT(*), COUNT(NULL), SUM(NULL), MAX(NULL) FROM lab.Star
-- name: various 34
SELECT kind, COUNT(*) FROM lab.Star WHERE starId < 0 GROUP BY kind
-- name: various 35
SELECT SUM(g), COUNT(*) FROM lab.Star WHERE starId < 0
-- name: various 36
SELECT a.starId FROM lab.Star a LEFT JOIN lab.Star b ON a.starId = b.starId AND b.g > 3 WHERE b.starId IS NULL
-- name: various 37 [ordered]
SELECT starId FROM lab.Star UNION SELECT starId FROM lab.Visit UNION ALL SELECT 7 ORDER BY 1 LIMIT 5
-- name: various 38
(SELECT starId FROM lab.Star ORDER BY starId LIMIT 2) UNION ALL (SELECT starId FROM lab.Star ORDER BY starId DESC LIMIT 2)
-- name: various 39 [ordered]
SELECT * FROM (SELECT starId FROM lab.Star ORDER BY f DESC, starId LIMIT 5) t ORDER BY starId
-- name: various 40
SELECT starId FROM lab.Star WHERE starId = (SELECT MAX(starId) FROM lab.Visit)
-- name: various 41
SELECT @@sql_mode IS NOT NULL, starId FROM lab.Star WHERE starId < 4
-- name: various 42
SELECT SQL_NO_CACHE SQL_BIG_RESULT kind, COUNT(*) FROM lab.Star GROUP BY kind
-- name: various 43
SELECT HIGH_PRIORITY starId FROM lab.Star WHERE starId < 3
-- name: various 44
SELECT ALL starId FROM lab.Star WHERE starId < 3
-- name: various 45
SELECT starId FROM lab.Star WHERE kind REGEXP '^s' AND name RLIKE 'a' OR flags & 2
-- name: various 46 [ordered]
SELECT starId FROM lab.Star WHERE FIND_IN_SET('b', flags) ORDER BY starId
-- name: various 47
SELECT BINARY name, name = BINARY name FROM lab.Star WHERE starId < 30
-- name: various 48
SELECT starId, CASE kind WHEN 'star' THEN 1 WHEN 'qso' THEN 2 END FROM lab.Star
-- name: various 49
SELECT JSON_OBJECT('id', starId, 'f', g) FROM lab.Star WHERE starId < 20
-- name: large rounded numbers
SELECT flags, MIN(ROUND(big + 0e0, 2)) AS low, MAX(ROUND(decl, 1)), ROUND(MAX(ra), 2) FROM lab.Star GROUP BY flags
-- name: grouped by rounded numbers [ordered] [approx]
SELECT ROUND(decl / 30, 1) AS zone, COUNT(*) FROM lab.Star GROUP BY zone ORDER BY zone
-- name: rollup of a column that is selected twice
SELECT t2.starId, t2.starId AS c2, COUNT(*) AS n FROM lab.Star t2 WHERE starId < 30 GROUP BY t2.starId, c2 WITH ROLLUP
-- name: bits
SELECT MIN(bits), MAX(bits), MAX(bits) + 0, COUNT(DISTINCT bits), SUM(bits) FROM lab.Star
-- name: bits by group
SELECT flags, MAX(bits), MIN(bits) FROM lab.Star GROUP BY flags
-- name: groups of bits
SELECT bits, COUNT(*) FROM lab.Star GROUP BY bits
-- name: bits from a subquery
SELECT (SELECT MAX(bits) FROM lab.Star WHERE starId < 200) AS most, COALESCE(MAX(bits), 1) FROM lab.Star
-- name: bits through a gather
SELECT a.bits, COUNT(*) FROM lab.Star a JOIN lab.Star b ON a.bits = b.bits WHERE a.starId < 40 GROUP BY a.bits
-- name: a constant side of a union decides neither type nor collation
SELECT NULLIF(NULL, t1.chunkId) AS c1, t1.g AS c2 FROM lab.Star t1 UNION ALL SELECT t3.chunkId, t2.g FROM lab.Star t2, lab.Ref t3 WHERE t2.starId = 7 UNION (SELECT NULL, t4.n FROM lab.Lut t4)
-- name: order by the collation of a union with a constant text [ordered]
SELECT name, starId FROM lab.Star UNION ALL SELECT SUBSTR(NULL, 2, 3), 1 FROM lab.Visit t1 INTERSECT SELECT t2.refId, 1 FROM lab.StarRef t2 ORDER BY 1 DESC, 2
-- name: digits of a sum of rounded numbers that is sorted [ordered] [approx]
SELECT chunkId AS c1, SUM(ROUND(flux, 2)) / COUNT(*) AS c3 FROM lab.Visit GROUP BY starId ORDER BY 2 DESC, chunkId DESC, starId DESC
-- name: truth values of a gathered derived table in JSON
SELECT JSON_ARRAYAGG(x.b ORDER BY x.k) FROM (SELECT starId AS k, starId > 3 AS b FROM lab.Star WHERE starId < 6) x
-- name: truth values that are stored on the way
SELECT JSON_ARRAYAGG(x.c ORDER BY x.k) FROM (SELECT starId AS k, kind LIKE 's%' AND g > 2 AS c FROM lab.Star ORDER BY g, starId LIMIT 10) x
-- name: JSON_ARRAYAGG of texts of joined rows, by the director key
SELECT x.s, x.j FROM (SELECT t1.starId s, JSON_ARRAYAGG(t1.name ORDER BY t1.starId, t2.visitId) j FROM lab.Star t1 LEFT JOIN lab.Visit t2 ON t1.starId = t2.starId AND t1.g > 2 GROUP BY t1.starId) x WHERE x.s BETWEEN 10 AND 30
-- plain:
SELECT x.s, x.j FROM (SELECT t1.starId s, CONCAT('[', GROUP_CONCAT(COALESCE(JSON_QUOTE(t1.name), 'null') ORDER BY t1.starId, t2.visitId), ']') j FROM lab.Star t1 LEFT JOIN lab.Visit t2 ON t1.starId = t2.starId AND t1.g > 2 GROUP BY t1.starId) x WHERE x.s BETWEEN 10 AND 30
-- name: rollup of one gathered row
SELECT CASE WHEN t1.c2 <> TIME '00:00:00' THEN NULL ELSE 'a b' END AS c3, COUNT(*) FROM (SELECT t2.t AS c2 FROM lab.Star t2 ORDER BY t2.dt, t2.b, t2.starId LIMIT 1) t1 GROUP BY CASE WHEN t1.c2 <> TIME '00:00:00' THEN NULL ELSE 'a b' END WITH ROLLUP
-- name: NULL <=> NULL in a join at home
SELECT COUNT(*), COUNT(t2.t) FROM lab.Star t2 JOIN lab.Star t3 ON t3.t <=> t2.t WHERE EXISTS (SELECT 1 FROM lab.Ref r WHERE r.mag = t3.f OR t3.f > 0)
-- name: a semijoin with a grouped derived table
SELECT t1.c4, t1.starId AS c6 FROM (SELECT t3.starId, ROUND(AVG(t2.d), 2) AS c4 FROM lab.Star AS t2 NATURAL JOIN lab.Visit t3 GROUP BY t3.starId) t1 WHERE (t1.starId IN (SELECT t5.starId FROM lab.StarRef t5 WHERE t1.starId = t5.starId)) GROUP BY 2
-- name: NULL is grouped by and stands in IS NOT NULL
SELECT NULL AS c1, COUNT(*) FROM lab.Star t1 GROUP BY 1 HAVING (SUM(1) IS NOT NULL)
-- name: constants that are grouped by, in other expressions too
SELECT 5 AS c1, kind, COUNT(*) + 5, MAX(day) + INTERVAL 5 DAY FROM lab.Star t2 GROUP BY c1, 2
-- name: a rollup of a constant in a derived table
WITH q AS (SELECT 1 AS c1 FROM lab.Star t3 GROUP BY c1 WITH ROLLUP) SELECT q.c1 AS c7, r.c1 FROM q, q r
-- name: a distribution has ten decimals wherever it is stored [ordered]
SELECT CUME_DIST() OVER (PARTITION BY starId ORDER BY band) AS w0, PERCENT_RANK() OVER (PARTITION BY starId ORDER BY band) + 0 AS w1, visitId FROM lab.Visit ORDER BY visitId
-- name: windows over a derived table and rows that a subquery tests
SELECT t1.starId, MIN(t1.starId) OVER (PARTITION BY t1.starId) AS w0 FROM (SELECT t2.starId, t2.d AS c2, COUNT(*) - 1 AS c5 FROM lab.Star AS t2 GROUP BY t2.starId, 2 ORDER BY t2.starId, t2.d LIMIT 3, 2) t1 WHERE t1.starId NOT IN (SELECT t4.starId FROM lab.Star t4 WHERE t4.d < t1.c5)
-- name: averages of exact numbers that are read as DOUBLE [approx]
SELECT SQRT(AVG(n)), POW(AVG(n), 2), AVG(n) / 3, AVG(n) / 3e0, -AVG(n) * 2e0, AVG(flux) - AVG(n) FROM lab.Visit
-- name: distribution in an order of its own [ordered]
SELECT CUME_DIST() OVER (PARTITION BY starId ORDER BY visitId) AS c, PERCENT_RANK() OVER (PARTITION BY starId ORDER BY visitId) AS p, visitId FROM lab.Visit ORDER BY visitId DESC
-- name: distribution of joined rows [ordered]
SELECT v.visitId, CUME_DIST() OVER (PARTITION BY v.starId ORDER BY v.visitId) AS c FROM lab.Visit v JOIN lab.Star s ON s.starId = v.starId WHERE s.g > 1 ORDER BY v.flux, v.visitId LIMIT 50
-- name: bands of both coordinates
SELECT starId, ra, decl FROM lab.Star WHERE ra BETWEEN 0 AND 3 AND decl >= -2 AND 2 > decl
-- name: bands of both coordinates at the pole
SELECT starId FROM lab.Star WHERE decl = 90 AND ra BETWEEN 1 AND 200
-- name: common table expressions 1 [in lab]
WITH RECURSIVE r AS (SELECT MIN(starId) AS n FROM lab.Star UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r
-- name: common table expressions 2 [in lab]
WITH RECURSIVE Star AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM Star WHERE n < 5) SELECT * FROM Star
-- name: common table expressions 3 [in lab]
WITH RECURSIVE Star AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM Star WHERE n < 5) SELECT * FROM lab.Star WHERE starId < 3
-- name: common table expressions 4 [in lab]
WITH Star AS (SELECT 1 AS n) SELECT * FROM Star
-- name: common table expressions 5 [in lab]
WITH Star AS (SELECT starId FROM Star WHERE starId < 3) SELECT * FROM Star
-- name: common table expressions 6 [in lab]
WITH Star AS (SELECT starId FROM lab.Star WHERE starId < 3) SELECT * FROM Star, lab.Star b WHERE b.starId = Star.starId
-- name: common table expressions 7 [in lab]
WITH RECURSIVE r AS (SELECT starId AS n, 1 AS depth FROM lab.Star WHERE starId = 3 UNION ALL SELECT s.starId, depth + 1 FROM r JOIN lab.Star s ON s.starId = r.n + 1 WHERE depth < 5) SELECT * FROM r
-- name: common table expressions 8 [in lab]
WITH RECURSIVE r AS (SELECT starId AS n, 1 AS depth FROM lab.Star WHERE starId = 3 UNION ALL SELECT s.starId, depth + 1 FROM r JOIN lab.Star s ON s.starId = r.n + 1 WHERE depth < 5) SELECT r.depth, v.visitId FROM r JOIN lab.Visit v ON v.starId = r.n
-- name: common table expressions 9 [in lab]
WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT (SELECT MIN(starId) FROM Star WHERE starId > n) FROM r WHERE n < 6) SELECT * FROM r
-- name: common table expressions 10 [in lab]
WITH RECURSIVE a AS (SELECT starId n FROM Star WHERE starId < 4), b AS (SELECT 1 AS m UNION ALL SELECT m + 1 FROM b WHERE m < 3) SELECT * FROM a JOIN b ON a.n = b.m
-- name: common table expressions 11 [in lab]
SELECT * FROM (WITH RECURSIVE r AS (SELECT MAX(starId) AS n FROM lab.Star UNION ALL SELECT n - 1 FROM r WHERE n > 397) SELECT n FROM r) x
-- name: common table expressions 12 [in lab]
SELECT starId FROM Star WHERE starId IN (WITH RECURSIVE r AS (SELECT MAX(starId) AS n FROM lab.Visit UNION ALL SELECT n - 1 FROM r WHERE n > 390) SELECT n FROM r)
-- name: common table expressions 13 [in lab]
WITH RECURSIVE r(n) AS (SELECT g FROM lab.Star UNION DISTINCT SELECT n + 10 FROM r WHERE n < 50) SELECT COUNT(*), MAX(n) FROM r
-- name: common table expressions 14 [in lab]
SELECT (WITH q AS (SELECT MAX(starId) m FROM Star) SELECT m FROM q), starId FROM Star WHERE starId < 3
-- name: common table expressions 15 [in lab]
WITH q AS (SELECT MAX(starId) m FROM Star), q2 AS (SELECT m + 1 AS m FROM q) SELECT * FROM q UNION ALL SELECT * FROM q2
-- name: common table expressions 16 [in lab]
WITH q AS (SELECT starId, RAND() x FROM Star WHERE starId < 4) SELECT COUNT(*) FROM q a JOIN q b ON a.starId = b.starId AND a.x = b.x
-- name: common table expressions 17 [in lab]
WITH Star AS (SELECT 1 AS n), Visit AS (SELECT 2 AS m) SELECT * FROM Star JOIN Visit ON n < m
-- name: common table expressions 18 [in lab]
WITH Star AS (SELECT band FROM lab.Band) SELECT * FROM Star
-- name: common table expressions 19 [in lab]
WITH RECURSIVE q AS (SELECT MIN(starId) AS n FROM Star UNION ALL SELECT n + 1 FROM q WHERE n < 3), q2 AS (SELECT n * 2 AS n FROM q) SELECT * FROM q2
-- name: common table expressions 20 [in lab]
WITH RECURSIVE q AS (SELECT starId AS n FROM Star WHERE starId = 1 UNION ALL SELECT Q.n + 1 FROM q Q WHERE Q.n < 3) SELECT q.n, z.n FROM q JOIN q z USING (n)
-- name: common table expressions 21 [in lab]
WITH RECURSIVE q AS (SELECT MIN(starId) AS n FROM Star UNION ALL SELECT n + 1 FROM q WHERE n < 3) SELECT starId FROM Star WHERE starId IN (SELECT n FROM q)
-- name: common table expressions 22 [in lab]
WITH RECURSIVE q AS (SELECT MIN(starId) AS n FROM Star UNION ALL SELECT n + 1 FROM q WHERE n < 3) SELECT starId FROM Star WHERE starId = 7
-- name: common table expressions 23 [in lab]
WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM q WHERE n < 3) SELECT COUNT(*) FROM Star
-- name: fetch with ties
SELECT g, starId FROM lab.Star WHERE starId < 100 ORDER BY g FETCH FIRST 3 ROWS WITH TIES
-- name: intersection of all
SELECT g FROM lab.Star INTERSECT ALL SELECT g FROM lab.Visit JOIN lab.Star USING (starId)
-- name: median over a window
SELECT MEDIAN(d) OVER (PARTITION BY kind) m, starId FROM lab.Star WHERE starId < 20
-- name: a polygon in binary form
SELECT starId FROM lab.Star WHERE scisql_s2PtInCPoly(ra, decl, scisql_s2CPolyToBin(30, -20, 110, -20, 100, 30, 40, 30)) = 1
-- plain:
SELECT starId FROM lab.Star WHERE COS(RADIANS(decl)) * COS(RADIANS(ra)) * 0.14131448435589206 + COS(RADIANS(decl)) * SIN(RADIANS(ra)) * 0.3882583548096868 + SIN(RADIANS(decl)) * 0.8696071298738486 >= 0 AND COS(RADIANS(decl)) * COS(RADIANS(ra)) * 0.7332093283160718 + COS(RADIANS(decl)) * SIN(RADIANS(ra)) * 0.2121311683978564 + SIN(RADIANS(decl)) * -0.14131448435589208 >= 0 AND COS(RADIANS(decl)) * COS(RADIANS(ra)) * 0.14809906636301196 + COS(RADIANS(decl)) * SIN(RADIANS(ra)) * 0.40689884067468673 + SIN(RADIANS(decl)) * -0.649519052838329 >= 0 AND COS(RADIANS(decl)) * COS(RADIANS(ra)) * -0.42531564492505425 + COS(RADIANS(decl)) * SIN(RADIANS(ra)) * 0.6337997743116749 + SIN(RADIANS(decl)) * -0.1413144843558921 >= 0
-- name: hours of a TIME as text are longer than their type says
SELECT CAST(HOUR(t1.t) AS CHAR) AS hours, CONCAT(HOUR(t), 'h') FROM lab.Star t1 ORDER BY t1.starId DESC LIMIT 9
-- name: aggregates of hours as text
SELECT MAX(CONCAT(HOUR(t))), SUM(HOUR(t) * 2), MAX(HOUR(t)) FROM lab.Star
-- name: a constant in totals, also where it is spelt otherwise
SELECT 'STAR' AS c1, 'star', kind, COUNT(*) FROM lab.Star GROUP BY 'star', kind WITH ROLLUP
-- name: names of columns of totals beside an inner aggregate
SELECT d, COUNT(*) FROM lab.Star WHERE starId <> (SELECT MAX(starId) FROM lab.Visit) AND ra > 180 GROUP BY d WITH ROLLUP
-- name: the same, deeper inside
SELECT f, SUM(1) FROM lab.Star t1 WHERE EXISTS (SELECT 1 FROM lab.Visit WHERE starId = t1.starId AND starId < (SELECT MIN(t2.starId) + 9 FROM lab.Star t2)) GROUP BY f WITH ROLLUP
-- name: a query that reads itself
WITH RECURSIVE q AS (SELECT starId, g, 1 AS step FROM lab.Star WHERE g > 2 UNION ALL SELECT s.starId, s.g, q.step + 1 FROM lab.Star AS s JOIN q ON s.starId = q.starId + 3 WHERE q.step < 4) SELECT step, COUNT(*), SUM(g), MIN(starId) FROM q GROUP BY step ORDER BY step
-- name: hours as text in a query inside, gathered: the same by numbers
SELECT h, COUNT(*) FROM (SELECT CONCAT('a', HOUR(t)) h FROM lab.Star LIMIT 1000) a GROUP BY h ORDER BY h
-- plain:
SELECT CONCAT('a', h) h, COUNT(*) FROM (SELECT HOUR(t) h FROM lab.Star LIMIT 1000) a GROUP BY h ORDER BY h
-- name: distinct rows in the order of an expression, limited
SELECT DISTINCT code REGEXP '^[at]', decl, d FROM lab.Star ORDER BY 2 DESC, 3, 1 DESC LIMIT 5
-- name: averages read as doubles beside distinct values
SELECT LOWER(code) c, COUNT(DISTINCT kind), AVG(d) * 1e0, COALESCE(AVG(g), 1e0), GREATEST(AVG(d), -1e9) FROM lab.Star GROUP BY 1
-- name: HAVING with an inner query over a replicated table
SELECT g + 1, COUNT(*) FROM lab.Star s GROUP BY g HAVING g + 0 IN (SELECT n FROM lab.Lut) ORDER BY 1
-- name: HAVING with a correlated inner query of a column that is not selected
SELECT g + 1, COUNT(*) FROM lab.Star s GROUP BY g HAVING EXISTS (SELECT 1 FROM lab.Lut WHERE n = s.g) ORDER BY 1
-- name: an aggregate in an inner query's list
SELECT kind, MAX(small) IN (SELECT n FROM lab.Lut) FROM lab.Star GROUP BY kind HAVING MAX(small) NOT IN (SELECT n FROM lab.Lut WHERE n > 5)
-- name: digits of gathered deviations [approx]
SELECT c2 * 1000, c2, c1 FROM (SELECT g AS c1, STD(small) AS c2 FROM lab.Star GROUP BY 1) t1
-- name: digits of gathered deviations, in aggregates [approx]
SELECT SUM(c2), MAX(c2), AVG(c2) FROM (SELECT g AS c1, STD(small) AS c2 FROM lab.Star GROUP BY 1) t1
-- name: digits of gathered deviations, as text [ordered]
SELECT CONCAT(c2), c1 FROM (SELECT g AS c1, STD(small) AS c2 FROM lab.Star GROUP BY 1) t1 ORDER BY 1
-- name: digits of a gathered deviation beside rows [approx]
SELECT s.starId, s.small / t.c2 FROM lab.Star s, (SELECT STD(small) AS c2 FROM lab.Star) t
-- name: digits of deviations in a UNION with a DOUBLE [approx]
SELECT STD(small) FROM lab.Star UNION SELECT 3.123456e0
-- name: digits of deviations in a UNION of their like [approx]
SELECT STD(small) FROM lab.Star UNION SELECT 3
-- name: NULL as a text in a set operation
SELECT t2.n, t1.d FROM lab.Star t1 LEFT JOIN lab.Visit t2 ON t1.starId = t2.starId EXCEPT SELECT IF(t3.mag <=> 17.5e0, NULL, NULL), 0.5 AS c5 FROM lab.Ref t3
-- name: NULL of NULL as a text in a set operation
SELECT IFNULL(IF(n > 1, NULL, NULL), NULL), n FROM lab.Visit UNION SELECT n, 2 FROM lab.Visit
-- name: streams of FLOAT with NULLs [ordered] [streams]
SELECT starId, f FROM lab.Star ORDER BY f, starId
-- name: streams of FLOAT, greatest first [ordered] [streams]
SELECT f, starId FROM lab.Star ORDER BY f DESC, starId DESC
-- name: streams of DECIMAL [ordered] [streams]
SELECT starId, d FROM lab.Star ORDER BY d DESC, starId DESC
-- name: streams of huge numbers [ordered] [streams]
SELECT big, starId, small FROM lab.Star ORDER BY big DESC, small, starId
-- name: streams of dates and times [ordered] [streams]
SELECT starId, day, dt FROM lab.Star ORDER BY day DESC, dt, starId
-- name: streams by what is not selected [ordered] [streams]
SELECT name, kind FROM lab.Star ORDER BY small, dt DESC, starId DESC
-- name: streams of all columns [ordered] [streams]
SELECT *, 7 FROM lab.Star ORDER BY decl DESC, ra, starId
-- name: streams by aliases that are columns [ordered] [streams]
SELECT ra AS decl, decl AS ra, starId FROM lab.Star ORDER BY ra, decl, starId
-- name: streams by position [ordered] [streams]
SELECT starId, d + 1, d FROM lab.Star ORDER BY 3, 1 DESC
-- name: streams of an outer join [ordered] [streams]
SELECT s.starId, v.visitId, v.flux FROM lab.Star s LEFT JOIN lab.Visit v USING (starId) ORDER BY v.flux DESC, v.visitId, s.starId
-- name: streams with a limit [ordered] [streams]
SELECT starId, f FROM lab.Star ORDER BY f, starId LIMIT 1500 OFFSET 50
-- name: streams that end within a chunk [ordered] [streams]
SELECT objectId, vmag FROM hip.Object ORDER BY vmag, objectId LIMIT 2000, 500
-- name: streams of everything [ordered] [streams]
SELECT objectId, ra, decl, vmag FROM hip.Object ORDER BY vmag DESC, objectId
-- name: streams with an offset alone [ordered] [streams]
SELECT starId, decl FROM lab.Star ORDER BY decl, starId LIMIT 390, 18446744073709551615
-- name: streams of nothing [ordered] [streams]
SELECT starId, d FROM lab.Star WHERE d > 5000 ORDER BY d
-- name: streams of wide rows [ordered] [streams]
SELECT starId, REPEAT(txt, 9000) FROM lab.Star ORDER BY dt DESC, starId
-- name: streams with a subquery [ordered] [streams]
SELECT starId, (SELECT COUNT(*) FROM lab.Visit v WHERE v.starId = s.starId) FROM lab.Star s WHERE small IN (SELECT n FROM lab.Lut) ORDER BY s.decl, s.starId
-- name: digits of gathered deviations that are computed and stored [approx]
SELECT c * 1000 FROM (SELECT g, STD(small) * 2 AS c FROM lab.Star GROUP BY g) t
-- name: digits of gathered deviations beside a text
SELECT IFNULL(c2, 'none') FROM (SELECT g, STD(small) AS c2 FROM lab.Star GROUP BY g) t
-- name: digits of gathered deviations in a CASE
SELECT CASE WHEN g > 1 THEN c2 ELSE 'x' END FROM (SELECT g, STD(small) AS c2 FROM lab.Star GROUP BY g) t
-- name: digits of gathered averages that are rounded [approx]
SELECT c * 1e6 FROM (SELECT g, ROUND(AVG(d), 2) / 7 AS c FROM lab.Star GROUP BY g) t
-- name: digits of gathered deviations that are grouped
SELECT COUNT(*) FROM (SELECT g, STD(small) AS c2 FROM lab.Star GROUP BY g) t GROUP BY c2 * 2
-- name: digits of gathered deviations through two queries [approx]
SELECT d * 2, d FROM (SELECT c2 AS d FROM (SELECT g, STD(small) AS c2 FROM lab.Star GROUP BY g) t LIMIT 100) u
-- name: digits of gathered deviations whose columns are named anew
SELECT CONCAT(b) FROM (SELECT a + 0 AS a, b FROM (SELECT g AS a, STD(small) AS b FROM lab.Star GROUP BY g) t LIMIT 100) u
-- name: digits of a scalar inner query's deviation [approx]
SELECT (SELECT STD(small) FROM lab.Star) * 2 AS x, COUNT(*) FROM lab.Visit
-- name: digits of gathered deviations behind a star in parentheses [approx]
(SELECT * FROM (SELECT STD(small) AS c FROM lab.Star GROUP BY g) t)
-- name: digits of gathered deviations behind a star that is looked for
SELECT COUNT(*) FROM lab.Star WHERE small > ALL (SELECT * FROM (SELECT STD(small) / 2 AS c FROM lab.Star) t)
-- name: digits of gathered deviations behind a star in a derived table [approx]
SELECT x.c * 1000 FROM (SELECT * FROM (SELECT g, STD(small) AS c FROM lab.Star GROUP BY g) t LIMIT 100) x
-- name: NULL of two words and of an expression, beside numbers [ordered]
SELECT IF(ra > 1, NULL, NULLIF(NULL, 1)) AS c FROM lab.Star UNION SELECT starId FROM lab.Star ORDER BY c
-- name: NULL of two expressions, beside numbers [ordered]
SELECT IF(ra > 1, COALESCE(NULL, NULL), NULLIF(NULL, 1)) AS c FROM lab.Star UNION SELECT starId FROM lab.Star ORDER BY c
-- name: NULL of words in a choice of words, beside numbers
SELECT IF(ra > 1, NULL, IF(ra > 2, NULL, NULL)) AS c FROM lab.Star UNION SELECT starId FROM lab.Star
-- name: NULL of an IF in a CASE, beside numbers [ordered]
SELECT CASE WHEN ra > 1 THEN IF(ra > 1, NULL, NULLIF(NULL, 1)) END AS c FROM lab.Star UNION SELECT starId FROM lab.Star ORDER BY c
-- name: truth values in JSON that joined rows are grouped by
SELECT v.band < s.txt, JSON_ARRAYAGG(v.band < s.txt) FROM lab.Visit v JOIN lab.Star s USING (starId) GROUP BY 1
-- name: truth values in JSON that joined rows of a derived table are grouped by
SELECT t.c AS k, JSON_ARRAYAGG(t.c ORDER BY t.c DESC) FROM (SELECT v.band < s.txt AS c FROM lab.Visit v JOIN lab.Star s USING (starId)) t GROUP BY k
-- name: truth values in JSON that rows are grouped by
SELECT c, JSON_ARRAYAGG(c) FROM (SELECT g < 2 AS c FROM lab.Star) t GROUP BY t.c
-- name: truth values in JSON that joined rows are not grouped by [ordered]
SELECT t.g, JSON_ARRAYAGG(t.c ORDER BY t.k, t.i) FROM (SELECT s.g, s.starId AS k, v.visitId AS i, v.band < s.txt AS c FROM lab.Visit v JOIN lab.Star s USING (starId)) t GROUP BY t.g ORDER BY t.g
-- name: limit 0 groups
SELECT kind, COUNT(*) FROM lab.Star GROUP BY kind LIMIT 0
-- name: limit 0 aggregate
SELECT COUNT(*), SUM(d) FROM lab.Star LIMIT 0
-- name: limit 0 sorted
SELECT starId, name FROM lab.Star ORDER BY name LIMIT 0
-- name: limit 0 of an inner query
SELECT COUNT(*), MAX(starId) FROM (SELECT * FROM lab.Star LIMIT 0) q
-- name: limit 0 around groups
SELECT * FROM (SELECT kind, COUNT(*) n, MAX(d) FROM lab.Star GROUP BY kind) q LIMIT 0
-- name: limit 0 union
SELECT name FROM lab.Star UNION SELECT code FROM lab.Star LIMIT 0
-- name: limit 0 in a branch
(SELECT starId FROM lab.Star LIMIT 0) UNION ALL SELECT objectId FROM hip.Object WHERE objectId < 5
-- name: limit 0 of a scalar query
SELECT objectId, (SELECT COUNT(*) FROM lab.Star LIMIT 0) FROM hip.Object WHERE objectId < 5
-- name: no row of groups
SELECT * FROM (SELECT kind, COUNT(*) n FROM lab.Star GROUP BY kind) q WHERE 1=0
-- name: no row, aggregates of groups
SELECT COUNT(*), SUM(n), GROUP_CONCAT(kind) FROM (SELECT kind, COUNT(*) n FROM lab.Star GROUP BY kind) q WHERE 1<>1
-- name: no row, aggregates
SELECT COUNT(*), COUNT(DISTINCT kind), SUM(d), MIN(name), STD(g) FROM lab.Star WHERE (0 = 1)
-- name: no row, rollup
SELECT kind, COUNT(*) FROM lab.Star WHERE NULL GROUP BY kind WITH ROLLUP
-- name: no row, having
SELECT COUNT(*) n FROM lab.Star WHERE d > 0 AND 1 > 2 HAVING n = 0
-- name: no row of one side
SELECT o.objectId, s.starId FROM hip.Object o LEFT JOIN lab.Star s ON 1 = 0 WHERE o.objectId < 5
-- name: no row of an inner join
SELECT COUNT(*) FROM hip.Object o JOIN hip.Detection d ON o.objectId = d.objectId AND 2 < 1
-- name: no row of either branch
SELECT COUNT(*) FROM hip.Object WHERE (1 = 0 AND vmag > 3) OR (NULL AND objectId = 7)
-- name: no row of one branch
SELECT COUNT(*) FROM hip.Object WHERE 1 = 0 OR objectId = 7 OR NULL
-- name: no row by not
SELECT COUNT(*) FROM hip.Object WHERE NOT (1 = 1 OR vmag > 3)
-- name: all rows by not
SELECT COUNT(*) FROM hip.Object WHERE NOT (vmag = 3 AND 1 = 0)
-- name: null is never equal
SELECT COUNT(*) FROM hip.Object WHERE bv = NULL
-- name: null may be the same
SELECT COUNT(*) FROM hip.Object WHERE bv <=> NULL
-- name: not null of null
SELECT COUNT(*) FROM hip.Object WHERE NOT (NULL AND bv > 0)
-- name: no row beside a subquery
SELECT COUNT(*) > (SELECT COUNT(*) FROM lab.Star) FROM hip.Object o JOIN lab.Star s ON o.objectId = s.starId WHERE 1 = 0
-- name: no row where decimals and minus signs differ
SELECT COUNT(*) FROM hip.Object WHERE 1.0 = 1 AND -1 < 0 AND TRUE = 1 AND 0.5 AND 1.00 <> 1
-- name: signs without effect, and the names of columns
SELECT +starId, + + g, g - +1, +'text', +1, -+g, +ABS(+g), + (g), CASE +g WHEN +1 THEN +2 ELSE + 3 END AS c FROM lab.Star WHERE decl > +10 AND g IN (+1, +2)
-- name: signs without effect behind reserved words [ordered]
SELECT DISTINCT +g AS c, COUNT(*) +1 FROM lab.Star WHERE NOT +g <=> +1 AND g BETWEEN +0 AND +4 GROUP BY +g HAVING +g DIV +2 < + +2 ORDER BY +g
-- name: signs without effect in derived tables
SELECT x.`1`, x.g, COUNT(*) FROM (SELECT +1, +g FROM lab.Star LIMIT 1000) x GROUP BY x.g

-- name: union whose first has an inner query without a name [in lab]
SELECT Visit.n AS c1, (SELECT MAX(Lut.n) FROM Lut) FROM Visit UNION SELECT 1, 2 FROM Visit t3 UNION ALL (SELECT 1, 100 AS c6 FROM Star t4 NATURAL JOIN Visit t5)
-- name: union of all rows, of two types
SELECT starId, kind FROM lab.Star UNION ALL SELECT flux, starId FROM lab.Visit
-- name: union of stars, and what is above its header
SELECT * FROM lab.Star UNION ALL SELECT * FROM lab.Star WHERE g = 1
-- name: union limited, ordered by an alias [ordered]
SELECT starId AS s, d + 1 FROM lab.Star UNION ALL SELECT starId, flux FROM lab.Visit ORDER BY s, 2 LIMIT 17 OFFSET 4
-- name: union of groups with the director key
SELECT starId, COUNT(*) FROM lab.Visit GROUP BY starId UNION ALL SELECT starId, g FROM lab.Star WHERE g IS NULL
-- name: union without repetitions below and at the end
SELECT kind, g FROM lab.Star UNION ALL SELECT kind, g FROM lab.Star WHERE f > 0 UNION SELECT band, n FROM lab.Visit WHERE 1 = 0 UNION SELECT kind, n FROM lab.Star JOIN lab.Visit USING (starId)
-- name: union of constants and columns by key
SELECT starId, 'star', NULL FROM lab.Star WHERE starId IN (3, 7, 9) UNION ALL SELECT starId, 'visit', flux FROM lab.Visit WHERE starId = 7
-- name: union in parentheses
((SELECT starId FROM lab.Star) UNION ALL (SELECT visitId FROM lab.Visit)) UNION ALL SELECT g FROM lab.Star
-- name: outer join to two tables that it does not tie
SELECT COUNT(*) FROM lab.Star a JOIN lab.Star b ON a.g = b.g LEFT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = b.starId
-- name: outer join to two tables of a cross join
SELECT COUNT(*), COUNT(v.visitId) FROM lab.Star a CROSS JOIN lab.Star b LEFT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = b.starId WHERE a.g < 2 AND b.g = 3
-- name: anti-join to two tables that it does not tie
SELECT COUNT(*) FROM lab.Star a JOIN lab.Star b ON a.g = b.g LEFT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = b.starId WHERE v.visitId IS NULL
-- name: outer join to two tables inside EXISTS
SELECT COUNT(*) FROM lab.Star s WHERE EXISTS (SELECT 1 FROM lab.Star a JOIN lab.Star b ON a.g = b.g LEFT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = b.starId WHERE a.starId = s.starId AND b.small > s.small)
-- name: outer join of a table to one before that is not tied
SELECT COUNT(*), COUNT(w.starId), COUNT(b.starId) FROM lab.Star a LEFT JOIN lab.Visit w ON w.n = a.g LEFT JOIN lab.Star b ON b.starId = a.starId AND b.starId = w.starId
-- name: right join that ties what is before it
SELECT COUNT(*), COUNT(a.starId), COUNT(b.starId) FROM lab.Star a JOIN lab.Star b ON a.g = b.g RIGHT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = b.starId
-- name: right join to two tables before it, one of a left join
SELECT COUNT(*), COUNT(a.starId), COUNT(w.starId) FROM lab.Star a LEFT JOIN lab.Visit w ON w.n = a.g RIGHT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = w.starId
-- name: outer join to two tables that WHERE makes an inner one
SELECT COUNT(*), COUNT(v.visitId) FROM lab.Star a JOIN lab.Star b ON a.g = b.g LEFT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = b.starId WHERE v.starId > 5
-- name: outer join past a right join that ties its own only
SELECT COUNT(*), COUNT(a.starId), COUNT(v.visitId) FROM lab.Star a RIGHT JOIN lab.Star s ON a.starId = s.g AND a.starId = s.starId LEFT JOIN lab.Visit v ON v.starId = s.g
-- name: outer joins in a chain
SELECT COUNT(*), COUNT(v.visitId), COUNT(b.starId) FROM lab.Star a LEFT JOIN lab.Visit v ON v.starId = a.starId LEFT JOIN lab.Star b ON b.starId = v.starId
-- name: right join with USING, and a left one
SELECT COUNT(*), COUNT(v.visitId), COUNT(a.starId) FROM lab.Visit v RIGHT JOIN lab.Star b USING (starId) LEFT JOIN lab.Star a USING (starId)
-- name: outer join through a replicated table
SELECT COUNT(*), COUNT(a.starId), COUNT(c.starId) FROM lab.Star a LEFT JOIN lab.Lut l ON l.n = a.starId LEFT JOIN lab.Star c ON c.starId = l.n
-- name: right join beside a match table
SELECT COUNT(*), COUNT(m.refId), COUNT(v.visitId) FROM lab.Visit v RIGHT JOIN lab.Star s ON v.starId = s.starId LEFT JOIN lab.StarRef m ON m.starId = s.starId
-- name: right join in a join that WHERE reads
SELECT COUNT(*) FROM lab.Star a JOIN lab.Visit v RIGHT JOIN lab.Band b ON v.band = b.band AND v.n = 3 ON a.g = 2 WHERE v.flux IS NULL
-- name: outer join from a replicated table that a later join makes an inner one
SELECT COUNT(*), COUNT(v.visitId) FROM lab.Band b LEFT JOIN lab.Visit v ON v.band = b.band JOIN lab.Star s ON s.starId = v.starId
-- name: rows by a seeded RAND
SELECT COUNT(*) FROM lab.Star WHERE RAND(5) < 0.4
-- name: rows by a RAND whose seed is a column
SELECT COUNT(*) FROM lab.Star WHERE RAND(starId) < 0.4
-- name: count no row of which is wanted
SELECT SQL_CALC_FOUND_ROWS COUNT(*) FROM lab.Star LIMIT 0
-- name: count whose row is passed over
SELECT SQL_CALC_FOUND_ROWS COUNT(*) FROM lab.Star LIMIT 1 OFFSET 1
-- name: one random row of a replicated table for all
SELECT COUNT(DISTINCT b.band) FROM lab.Star s JOIN (SELECT band FROM lab.Band ORDER BY RAND() LIMIT 1) b ON 1
-- name: one random value for all
SELECT COUNT(DISTINCT u) FROM lab.Star CROSS JOIN (SELECT UUID() u) t
-- name: some rows of a replicated table
SELECT COUNT(*) FROM lab.Star s JOIN (SELECT n FROM lab.Lut ORDER BY n LIMIT 2) l ON s.g = l.n
-- name: keys from VALUES
SELECT starId, small FROM lab.Star WHERE starId IN (VALUES (1), (2))
-- name: EXISTS of VALUES
SELECT COUNT(*) FROM lab.Star WHERE EXISTS (VALUES (1))
-- name: order by a position in parentheses [ordered]
SELECT starId, small FROM lab.Star ORDER BY ((2)), (1) DESC LIMIT 20
-- name: group by a position in parentheses
SELECT g, COUNT(*) FROM lab.Star GROUP BY (1)
-- name: order by a sum of numbers [ordered]
SELECT starId, small FROM lab.Star ORDER BY 1 + 1, starId LIMIT 5
-- name: order by a number below nought [errno=1054]
SELECT starId FROM lab.Star ORDER BY -1
-- name: group concat by a position in parentheses
SELECT g, GROUP_CONCAT(starId, small ORDER BY (2), starId) FROM lab.Star WHERE starId < 60 GROUP BY g
-- name: union of tagged rows without repetitions
SELECT 'star', kind FROM lab.Star UNION SELECT 'visit', band FROM lab.Visit
-- name: union of tagged rows in order [ordered]
SELECT 's', starId FROM lab.Star UNION ALL SELECT 'v', visitId FROM lab.Visit ORDER BY 2, 1 LIMIT 30
-- name: union whose later query has a name twice
SELECT starId, n FROM lab.Visit UNION SELECT 7 AS starId, starId FROM lab.Star
-- name: union with locks
SELECT starId FROM lab.Star WHERE starId < 9 UNION ALL SELECT starId FROM lab.Visit WHERE starId < 9 FOR UPDATE
-- name: union ordered by an expression
SELECT starId, f FROM lab.Star WHERE starId < 30 UNION SELECT starId, flux FROM lab.Visit WHERE starId < 30 ORDER BY starId + f, 1, 2
-- name: replicated rows in groups, and numbered
SELECT COUNT(*), SUM(q.n) FROM lab.Star s JOIN (SELECT n, ROW_NUMBER() OVER (ORDER BY n, v) AS k FROM lab.Lut) q ON q.k = s.g
-- name: distinct keys ordered by what is not selected
SELECT DISTINCT starId FROM lab.Visit ORDER BY visitId
-- name: distinct keys and more ordered by what is not selected
SELECT DISTINCT starId, band FROM lab.Visit ORDER BY visitId DESC
-- name: distinct keys ordered by their director's column [ordered]
SELECT DISTINCT s.starId FROM lab.Star s JOIN lab.Visit v ON s.starId = v.starId ORDER BY s.ra, s.starId LIMIT 10
-- name: distinct keys of groups ordered by an aggregate
SELECT DISTINCT starId FROM lab.Visit GROUP BY starId, band ORDER BY MAX(visitId)
-- name: distinct keys ordered inside a derived table
SELECT COUNT(*), SUM(q.starId) FROM (SELECT DISTINCT starId FROM lab.Visit ORDER BY flux LIMIT 1000) q
-- name: distinct keys and their order selected [ordered]
SELECT DISTINCT starId, band FROM lab.Visit ORDER BY band, starId LIMIT 20
-- name: ordered by the name of a column of both tables [ordered]
SELECT s.starId, v.visitId FROM lab.Star s JOIN lab.Visit v ON s.starId = v.starId ORDER BY starId DESC, visitId LIMIT 40
-- name: groups of the name of a column of both tables [ordered]
SELECT v.chunkId, COUNT(*), MAX(s.g) FROM lab.Star s JOIN lab.Visit v ON s.starId = v.starId GROUP BY chunkId HAVING chunkId > 5 ORDER BY CHUNKID DESC
-- name: stars of one table ordered by the name of a column of both [ordered]
SELECT v.*, s.kind FROM lab.Star s JOIN lab.Visit v ON s.starId = v.starId WHERE s.starId < 30 ORDER BY starId, visitId
-- name: an alias that is a column of both tables [ordered]
SELECT s.kind AS starId, COUNT(*) FROM lab.Star s JOIN lab.Visit v ON s.starId = v.starId GROUP BY starId ORDER BY starId
-- name: totals of a column that is selected with its table
SELECT s.kind, COUNT(*) FROM lab.Star s GROUP BY kind WITH ROLLUP
-- name: totals of a column that is grouped with its table and database
SELECT KIND, g, COUNT(*) FROM lab.Star s GROUP BY lab.s.kind, `s`.G WITH ROLLUP
-- name: totals of a column inside an expression, in another spelling
SELECT IFNULL(Star.kind, 'all'), COUNT(*) FROM lab.Star GROUP BY kind WITH ROLLUP
-- name: totals of an expression in another spelling
SELECT floor(ra / 100), (Star.g + small) + 1, COUNT(*) FROM lab.Star GROUP BY FLOOR(Star.RA / 100), g + SMALL WITH ROLLUP
-- name: totals of a column selected twice in two spellings
SELECT s.kind, kind, COUNT(*) FROM lab.Star s GROUP BY kind WITH ROLLUP
-- name: totals of a column grouped by twice in two spellings
SELECT kind, COUNT(*) FROM lab.Star s GROUP BY kind, s.KIND WITH ROLLUP
-- name: totals under a condition on the column in another spelling
SELECT kind AS k, COUNT(*) FROM lab.Star GROUP BY k WITH ROLLUP HAVING lab.Star.Kind IS NULL
-- name: totals over columns that USING unites
SELECT Visit.starId, band, COUNT(*) FROM lab.Star LEFT JOIN lab.Visit USING (starId) WHERE starId < 9 GROUP BY starId, band WITH ROLLUP
-- name: totals over a united column and its alias
SELECT Visit.starId AS k, COUNT(*) FROM lab.Visit RIGHT JOIN lab.Star USING (starId) WHERE Star.starId < 9 GROUP BY starId WITH ROLLUP
-- name: totals of a derived table's column
SELECT q.K, COUNT(*) FROM (SELECT kind AS k FROM lab.Star) q GROUP BY k WITH ROLLUP
-- name: having a group column in another spelling
SELECT COUNT(*) FROM lab.Star GROUP BY KIND HAVING `Star`.`Kind` = 'qso'
-- name: having a group column with its table
SELECT MIN(small), COUNT(*) FROM lab.Star GROUP BY name HAVING Star.name > 'b'
-- name: distinct and ordered in two spellings [ordered]
SELECT DISTINCT s.g FROM lab.Star s ORDER BY G DESC
-- name: united columns in counts of distinct ones
SELECT COUNT(DISTINCT starId), COUNT(DISTINCT Visit.starId), COUNT(DISTINCT band, STARID) FROM lab.Star LEFT JOIN lab.Visit USING (starId)
-- name: united columns are ordered by [ordered]
SELECT Visit.starId AS k, visitId FROM lab.Star LEFT JOIN lab.Visit USING (starId) WHERE Star.starId < 20 ORDER BY starId DESC, visitId
-- name: a united column names its chunk
SELECT starId, kind, flux FROM lab.Star NATURAL LEFT JOIN lab.Visit WHERE starId IN (3, 5)
-- name: concatenated distinct values between separators
SELECT GROUP_CONCAT(DISTINCT kind SEPARATOR ';'), GROUP_CONCAT(DISTINCT small SEPARATOR ''), COUNT(*) FROM lab.Star WHERE kind = 'qso' AND small = 3
-- name: concatenated distinct values, sorted, between separators
SELECT g, GROUP_CONCAT(DISTINCT small ORDER BY small DESC SEPARATOR ' | ') FROM lab.Star GROUP BY g
-- name: with a table's name in other letters [in lab]
WITH visit AS (SELECT * FROM Visit WHERE flux > 1) SELECT visitId FROM Visit
-- name: with a table's name in other letters, counted [in lab]
WITH visit AS (SELECT * FROM Visit WHERE flux > 1) SELECT COUNT(*) FROM VISIT
-- name: with a name in other letters [in lab]
WITH Bright AS (SELECT * FROM Visit WHERE flux > 1), two AS (SELECT starId FROM BRIGHT) SELECT Two.starId, kind FROM Two JOIN Star USING (starId)
-- name: with a replicated table's name in other letters [in lab]
WITH lut AS (SELECT * FROM Lut WHERE n > 1) SELECT COUNT(*) FROM Star, Lut WHERE Lut.n = g AND EXISTS (SELECT 1 FROM lab.Lut l WHERE l.n = g)
-- name: with recursive and a name in other letters [in lab]
WITH RECURSIVE q AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM Q WHERE n < 3) SELECT Q.n, COUNT(*) FROM Q JOIN Star ON starId = n GROUP BY n
-- name: with a name in other letters, of another database's table [in lab]
WITH visit AS (SELECT 1 AS flux) SELECT COUNT(*) FROM lab.Visit v, VISIT w WHERE v.flux > w.flux
-- name: everything of a derived table over USING [ordered]
SELECT * FROM (SELECT * FROM lab.Visit JOIN lab.Star USING (starId)) q ORDER BY visitId LIMIT 30
-- name: everything of one derived table over NATURAL [ordered]
SELECT q.* FROM (SELECT * FROM lab.Visit NATURAL LEFT JOIN lab.Band) q ORDER BY visitId LIMIT 30
-- name: everything of a common table over USING [in lab]
WITH q AS (SELECT * FROM Band JOIN Visit USING (band) JOIN Star USING (starId)) SELECT DISTINCT * FROM q WHERE starId < 30
-- name: everything of a derived table over a right join with USING [ordered]
SELECT * FROM (SELECT * FROM lab.Star RIGHT JOIN lab.Visit USING (starId)) q ORDER BY visitId LIMIT 10
-- plain:
SELECT * FROM (SELECT * FROM lab.Star RIGHT JOIN lab.Visit USING (starId)) AS q ORDER BY visitId LIMIT 10
-- name: everything of a derived table in groups
SELECT *, COUNT(*) FROM (SELECT * FROM lab.Band JOIN lab.Visit USING (band)) q GROUP BY visitId
-- name: everything of derived tables united with others
SELECT q.starId, COUNT(*) FROM (SELECT * FROM lab.Visit JOIN lab.Band USING (band) UNION ALL SELECT band, visitId, starId, flux, n, band FROM lab.Visit) q GROUP BY q.starId
-- name: everything united, of one chunk
SELECT COUNT(*) FROM (SELECT * FROM lab.Visit JOIN lab.Star USING (starId) UNION SELECT * FROM lab.Visit JOIN lab.Star USING (starId)) q WHERE starId = 3
-- name: everything behind a comma and USING [ordered]
SELECT * FROM lab.Lut, lab.Visit JOIN lab.Star USING (starId) WHERE Lut.n = g AND starId < 60 ORDER BY visitId
-- name: medians by a column that an alias hides
SELECT FLOOR(f) AS f, scisql_percentile(small, 100) AS p, COUNT(*) FROM lab.Star GROUP BY f
-- plain:
SELECT FLOOR(f) AS f, MAX(small + 0e0) AS p, COUNT(*) FROM lab.Star GROUP BY f
-- name: medians by an alias, with a condition on it [ordered]
SELECT FLOOR(ra / 100) AS z, scisql_percentile(small, 100) AS p FROM lab.Star GROUP BY z HAVING z > 0 ORDER BY z DESC
-- plain:
SELECT FLOOR(ra / 100) AS z, MAX(small + 0e0) AS p FROM lab.Star GROUP BY z HAVING z > 0 ORDER BY z DESC
-- name: medians by the name of a column of both tables [ordered]
SELECT s.starId, scisql_percentile(n, 100) AS p FROM lab.Star s JOIN lab.Visit v ON s.starId = v.starId GROUP BY starId HAVING starId < 90 ORDER BY starId DESC
-- plain:
SELECT s.starId, MAX(n + 0e0) AS p FROM lab.Star s JOIN lab.Visit v ON s.starId = v.starId GROUP BY starId HAVING starId < 90 ORDER BY starId DESC
-- name: medians with a condition on the column in another spelling
SELECT kind, scisql_percentile(small, 100) AS p FROM lab.Star GROUP BY Star.Kind HAVING Star.kind = 'qso'
-- plain:
SELECT kind, MAX(small + 0e0) AS p FROM lab.Star GROUP BY Star.Kind HAVING Star.kind = 'qso'
-- name: an aggregate of the query around
SELECT (SELECT v FROM lab.Lut WHERE n = MAX(o.g)) FROM lab.Star o
-- name: an aggregate of the query around, compared
SELECT COUNT(*), (SELECT MAX(v) FROM lab.Lut WHERE n < MAX(g)) FROM lab.Star o
-- name: an aggregate of the query around in HAVING
SELECT COUNT(*) FROM lab.Star o HAVING EXISTS (SELECT 1 FROM lab.Lut WHERE n < SUM(o.g))
-- name: aggregates of the query around, in groups [ordered]
SELECT kind, (SELECT v FROM lab.Lut WHERE n = MAX(o.g)) FROM lab.Star o GROUP BY kind HAVING 5 IN (SELECT n FROM lab.Lut WHERE n >= MAX(o.g)) ORDER BY (SELECT v FROM lab.Lut WHERE n = MAX(o.small) - 1), kind
-- name: an aggregate of the query around in a derived table
SELECT * FROM (SELECT (SELECT v FROM lab.Lut WHERE n = MAX(o.g)) AS x FROM lab.Star o) q
-- name: an aggregate of the query around a query around
SELECT (SELECT v FROM lab.Lut WHERE n = (SELECT MAX(o.g) FROM lab.Band LIMIT 1)) FROM lab.Star o
-- name: aggregates of columns of both queries
SELECT starId, (SELECT MAX(s.g + o.n) FROM lab.Visit o WHERE o.starId = s.starId) FROM lab.Star s WHERE starId < 90
-- name: rollup of one column under two names, derived
SELECT a, b, COUNT(*) FROM (SELECT kind AS a, kind AS b FROM lab.Star) q GROUP BY a, b WITH ROLLUP
-- name: rollup of one column under two names, WITH and nested
WITH q AS (SELECT a, a AS b FROM (SELECT band AS a FROM lab.Visit) r) SELECT b, a, SUM(1) FROM q GROUP BY a, b WITH ROLLUP HAVING a IS NULL OR b IS NULL
-- name: rollup of one column under two names, one chunk
SELECT a, b, COUNT(*) FROM (SELECT starId AS a, starId AS b, g FROM lab.Star) q WHERE b = 5 GROUP BY a, b WITH ROLLUP
-- name: rollup of one column under two names, gathered
SELECT a, b, COUNT(*) FROM (SELECT name AS a, name AS b FROM lab.Star WHERE name LIKE 'x%' LIMIT 500) q GROUP BY b, a WITH ROLLUP
-- name: rollup of an expression twice
SELECT g + 1, COUNT(*) FROM lab.Star GROUP BY g + 1, g + 1 WITH ROLLUP
-- name: order by a name that an item has by its text [ordered]
SELECT FLOOR(ra/100) FROM lab.Star GROUP BY 1 ORDER BY `floor(ra/100)` DESC
-- name: group by and having names that items have by their text
SELECT FLOOR(ra / 100), COUNT(*) FROM lab.Star GROUP BY `FLOOR(ra / 100)` HAVING `count(*)` > 3
-- name: having a name of an aggregate's text, without groups
SELECT MAX(ra), MIN(ra) FROM lab.Star HAVING `MAX(ra)` > `min(ra)`
-- name: distinct in the order of an item's text [ordered]
SELECT DISTINCT g+1 FROM lab.Star ORDER BY -`g+1`
-- name: names of an inner query's items by their text [ordered]
SELECT d.`(ra + 1)`, `x`, `5` FROM (SELECT (ra + 1), starId, 'x', 5 FROM lab.Star) d WHERE d.`(ra + 1)` < 50 ORDER BY d.`(ra + 1)`, starId LIMIT 7
-- name: aggregate over an inner query's item by its text
WITH d AS (SELECT starId, ra + 1 FROM lab.Star) SELECT MAX(`ra + 1`), COUNT(*) FROM d
-- name: join by an inner query's count by its text
SELECT s.starId, d.`COUNT(*)` FROM lab.Star s JOIN (SELECT starId, COUNT(*) FROM lab.Visit GROUP BY starId HAVING `COUNT(*)` > 1) d USING (starId) WHERE s.starId < 9
-- name: union in the order of an item's text [ordered]
SELECT ra + 1 FROM lab.Star WHERE starId < 4 UNION ALL SELECT decl FROM lab.Star WHERE starId < 4 ORDER BY `ra + 1` LIMIT 3
-- name: order by a string's name, which hides the column [ordered]
SELECT 'kind', starId FROM lab.Star WHERE starId < 20 ORDER BY kind, starId DESC
-- name: order by a name of two items, a computed one last [ordered]
SELECT *, -ra AS decl FROM lab.Star WHERE starId < 20 ORDER BY decl, starId DESC LIMIT 5
-- name: order by a name of a group and an aggregate [ordered]
SELECT small, COUNT(*) * 100 + small AS small FROM lab.Star WHERE small IS NOT NULL GROUP BY small ORDER BY small DESC
-- name: group by the automatic name that an alias repeats
SELECT g + 1, COUNT(*) AS `g + 1` FROM lab.Star GROUP BY `g + 1`
-- name: an alias in an inner query of HAVING
SELECT g AS k, COUNT(*) FROM lab.Star GROUP BY k HAVING (SELECT COUNT(*) FROM lab.Lut WHERE n > k) > 2
-- name: an alias in an inner query of ORDER BY [ordered]
SELECT starId, g + 1 AS k FROM lab.Star WHERE starId < 20 ORDER BY (SELECT MAX(visitId) FROM lab.Visit v WHERE v.starId = k), starId
-- name: an alias in an expression of GROUP BY
SELECT starId % 3 AS k, COUNT(*) FROM lab.Visit GROUP BY k + 1
-- name: an alias in an inner query of GROUP BY
SELECT starId % 3 AS k, COUNT(*) FROM lab.Visit GROUP BY (SELECT MAX(n) FROM lab.Lut WHERE n < k)
-- name: floors of averages
SELECT kind, FLOOR(AVG(g)), CEIL(AVG(d)) + 1, FLOOR(AVG(starId)), FLOOR(AVG(f)), FLOOR(IFNULL(AVG(g), 0)), CEIL(AVG(g) / 2) FROM lab.Star GROUP BY kind
-- name: floor of an average, alone, unsigned and sorted [ordered]
SELECT band, FLOOR(AVG(n)) AS q, CEILING(AVG(big)) FROM lab.Visit JOIN lab.Star USING (starId) GROUP BY band HAVING q > 5 ORDER BY q
-- name: least ENUM and greatest SET by their texts, compared and gathered
SELECT MIN(t1.kind) AS c1, MAX(t1.flags), SUM(t1.kind = t1.name) AS c2, SUM(t1.flags = t1.name) FROM lab.Star t1 LEFT JOIN lab.Ref t2 ON t1.f = t2.mag
-- name: two values that vary, sorted by another
SELECT COUNT(*), SUM(q.x = q.y) FROM (SELECT starId, RAND() AS x, RAND() AS y FROM lab.Star ORDER BY starId LIMIT 50) q
-- name: two values that vary, distinct
SELECT COUNT(*) > 20 FROM (SELECT DISTINCT FLOOR(RAND() * 1000) AS x, FLOOR(RAND() * 1000) AS y FROM lab.Visit) q WHERE q.x <> q.y
-- name: a value that varies, selected and sorted by anew
SELECT COUNT(*), MIN(q.x) BETWEEN 0 AND 1 FROM (SELECT starId, RAND() AS x FROM lab.Star ORDER BY RAND() LIMIT 20) q
-- name: a value that varies, selected and asked for in HAVING
SELECT SUM(q.n) >= 0 OR COUNT(*) = 0 FROM (SELECT starId, COUNT(*) AS n, RAND() AS r FROM lab.Visit GROUP BY starId HAVING r < 2 ORDER BY starId) q
-- name: truth values of one aggregated row in JSON
SELECT JSON_OBJECT('n', q.n, 'big', q.big) FROM (SELECT COUNT(*) AS n, MAX(g) > 5 AS big FROM lab.Star WHERE starId > 2) q
-- name: truth values of one aggregated row in JSON, sorted by an aggregate
SELECT JSON_ARRAY(q.big) FROM (SELECT 1 > 0 AS big FROM lab.Star ORDER BY COUNT(*)) q
-- name: NULL compared with ALL of no rows
SELECT COUNT(*) FROM lab.Star WHERE NULL <> ALL (SELECT visitId FROM lab.Visit WHERE 1 = 0)
-- name: NULL compared with ANY of no rows
SELECT COUNT(*) FROM lab.Star WHERE NOT (NULL = ANY (SELECT visitId FROM lab.Visit WHERE n > 1000000))
-- name: an alias of an inner query is a column of the outer one in its WHERE
SELECT starId, (SELECT MAX(v.n) AS g FROM lab.Visit v WHERE v.n > g) AS m FROM lab.Star WHERE starId < 30
-- name: constant truth values of aggregated rows in JSON
SELECT JSON_ARRAY(q.a, q.b, q.n > 0) FROM (SELECT 1 > 0 AS a, 2 IN (1, 2) AS b, COUNT(*) AS n FROM lab.Star) q
-- name: constant truth values of groups in JSON
SELECT q.kind, JSON_ARRAY(q.a, q.n > 0) FROM (SELECT kind, NOT 0 AS a, COUNT(*) AS n FROM lab.Star GROUP BY kind) q
-- name: EXISTS of rows that are aggregated for their order
SELECT COUNT(*) FROM lab.Star WHERE EXISTS (SELECT 1 FROM lab.Visit WHERE n > 1000000 ORDER BY COUNT(*))
-- name: totals over an expression that begins with an aggregate
WITH RECURSIVE q AS (SELECT MIN(starId) AS starId FROM lab.Star UNION ALL SELECT starId + 6 FROM q WHERE starId < 90) SELECT t2.starId, COUNT(*) FROM q LEFT JOIN lab.Star AS t2 ON q.starId = t2.chunkId GROUP BY 1 WITH ROLLUP
-- name: totals over united aggregates
SELECT q.n, COUNT(*) FROM (SELECT MIN(starId) AS n FROM lab.Star UNION ALL SELECT MAX(visitId) FROM lab.Visit UNION ALL SELECT 1) AS q GROUP BY 1 WITH ROLLUP
-- name: windows over united aggregates
SELECT q.n, ROW_NUMBER() OVER (ORDER BY q.n) FROM (SELECT MIN(starId) AS n FROM lab.Star UNION ALL SELECT MAX(visitId) FROM lab.Visit WHERE n > 1) AS q WHERE q.n > (SELECT MIN(g) FROM lab.Star)
-- name: windows ordered by an alias that is a column [ordered]
SELECT visitId, -visitId AS flux, ROW_NUMBER() OVER (PARTITION BY starId ORDER BY flux) AS rn FROM lab.Visit ORDER BY visitId LIMIT 50
-- name: windows ordered by an alias [ordered]
SELECT visitId, -visitId AS nf, ROW_NUMBER() OVER (PARTITION BY starId ORDER BY nf) AS rn, ROW_NUMBER() OVER (PARTITION BY starId ORDER BY nf * 2) AS rm FROM lab.Visit ORDER BY visitId LIMIT 50
-- name: windows by expressions of an alias that is a column [ordered]
SELECT visitId, -visitId AS flux, ROW_NUMBER() OVER (PARTITION BY starId ORDER BY flux + 1, visitId) AS rn FROM lab.Visit ORDER BY visitId LIMIT 50
-- name: window partitions by an alias [ordered]
SELECT visitId, visitId % 2 AS par, ROW_NUMBER() OVER (PARTITION BY starId, par ORDER BY visitId) AS rn FROM lab.Visit ORDER BY visitId LIMIT 50
-- name: window partitions by a column that is an alias too [ordered]
SELECT visitId, 1 AS starId, COUNT(*) OVER (PARTITION BY starId) AS c FROM lab.Visit ORDER BY visitId LIMIT 50
-- name: named windows by an alias [ordered]
SELECT visitId, -visitId AS nf, ROW_NUMBER() OVER w AS rn FROM lab.Visit WINDOW w AS (PARTITION BY starId ORDER BY nf) ORDER BY visitId LIMIT 50
-- name: windows of joined rows by an alias [ordered]
SELECT v.visitId, -v.visitId AS f, ROW_NUMBER() OVER (ORDER BY f, v.visitId) AS rn FROM lab.Visit v JOIN lab.Star s ON s.starId = v.starId ORDER BY 1 LIMIT 50
-- name: windows of joined rows by an alias that is a column [ordered]
SELECT v.visitId, -v.visitId AS g, ROW_NUMBER() OVER (ORDER BY g) AS rn FROM lab.Visit v JOIN lab.Star s ON s.starId = v.starId ORDER BY 1 LIMIT 50
-- name: windows over groups by an alias of an aggregate [ordered]
SELECT starId, COUNT(*) AS n, RANK() OVER (PARTITION BY starId ORDER BY n) AS r FROM lab.Visit GROUP BY starId ORDER BY starId LIMIT 50
-- name: windows by an alias that varies
SELECT COUNT(*) FROM (SELECT visitId, RAND() AS r, ROW_NUMBER() OVER (PARTITION BY starId ORDER BY r) AS n FROM lab.Visit) q WHERE n = 1
-- name: HAVING on a column that is called like a partial
SELECT p1, id, COUNT(*) FROM (SELECT starId AS id, g AS p1, kind AS p0 FROM lab.Star) q GROUP BY id HAVING p1 > 3 ORDER BY id
-- name: groups of a united column in a derived table
SELECT COUNT(*) FROM (SELECT Visit.starId, COUNT(*) AS c FROM lab.Star LEFT JOIN lab.Visit USING (starId) GROUP BY starId) q
-- name: groups of an alias that is a united column in a derived table
SELECT q.* FROM (SELECT g AS starId, COUNT(*) AS c FROM lab.Star LEFT JOIN lab.Visit USING (starId) GROUP BY starId) q
-- name: groups by position in a derived table
SELECT MAX(q.c), COUNT(*) FROM (SELECT starId, COUNT(*) AS c FROM lab.Visit GROUP BY 1) q
-- name: window partitions of a united column
SELECT Visit.starId, Star.starId AS s, COUNT(*) OVER (PARTITION BY starId) AS c FROM lab.Star LEFT JOIN lab.Visit USING (starId)
-- name: a comma join in parentheses, then RIGHT JOIN
SELECT COUNT(*) FROM (lab.Lut l, lab.Visit v) RIGHT JOIN lab.Star s ON v.starId = s.starId
-- name: a comma join in parentheses, then JOIN
SELECT COUNT(*) FROM (lab.Star s, lab.Lut l) JOIN lab.Visit v ON v.starId = s.starId
-- name: RIGHT JOIN behind a comma in parentheses
SELECT COUNT(*) FROM (lab.Lut l, lab.Visit v RIGHT JOIN lab.Star s ON v.starId = s.starId) LEFT JOIN lab.Band b ON b.band = v.band
-- name: NATURAL JOIN behind a comma in parentheses
SELECT COUNT(*) FROM (lab.Lut l, lab.Band b NATURAL JOIN lab.Visit v) LEFT JOIN lab.Star s ON v.starId = s.starId
-- name: NULL is unlike all of none
SELECT a.starId, b.visitId FROM lab.Star a JOIN lab.Visit b ON b.flux > 1000000 LEFT JOIN lab.Visit v ON v.starId = a.starId AND v.starId = b.starId WHERE v.flux <> ALL (SELECT n FROM lab.Lut WHERE n < 0)
-- name: the owner of pairs that are joined with their second director
SELECT r.refId, m.skyOwner, m.chunkId >= 0 FROM lab.Ref r JOIN lab.StarRef m ON r.refId = m.refId WHERE m.skyOwner = 1
-- name: a table that is called FULL
SELECT COUNT(*), MIN(FULL.ra), MIN(Visit.flux) FROM lab.Star FULL JOIN lab.Visit USING (starId)
-- name: windows by expressions of united columns
SELECT v.visitId AS k0, -starId AS starId, RANK() OVER (PARTITION BY v.band ORDER BY starId + 1 DESC) AS r FROM lab.Star s JOIN lab.Visit v USING (starId)
-- name: an area of tables in parentheses
SELECT t1.starId, COUNT(*) FROM (lab.Star t1, lab.Lut t2) JOIN lab.Visit AS t3 ON t1.starId = t3.starId WHERE t1.g = t2.n AND qserv_areaspec_box(251.851, -30.619, 234.884, 82.888) GROUP BY t1.starId
-- plain:
SELECT t1.starId, COUNT(*) FROM (lab.Star t1, lab.Lut t2) JOIN lab.Visit AS t3 ON t1.starId = t3.starId WHERE t1.g = t2.n AND t1.decl BETWEEN -30.619 AND 82.888 AND (t1.ra >= 251.851 OR t1.ra <= 234.884) GROUP BY t1.starId
-- name: JSON and truth values 1
SELECT JSON_ARRAY(g > 2), COUNT(*) FROM lab.Star GROUP BY g > 2
-- name: JSON and truth values 2
SELECT JSON_ARRAY(g > 2), COUNT(*) FROM lab.Star GROUP BY g > 2 ORDER BY COUNT(*)
-- name: JSON and truth values 3
SELECT JSON_ARRAY(s.g > 2), COUNT(*) FROM lab.Star s JOIN lab.Lut l GROUP BY s.g > 2
-- name: JSON and truth values 4
SELECT JSON_ARRAY(kind = 'a'), COUNT(*) FROM lab.Star GROUP BY starId
-- name: JSON and truth values 5
SELECT JSON_ARRAY(g > 2), COUNT(*) FROM lab.Star GROUP BY kind, g > 2
-- name: JSON and truth values 6
SELECT JSON_ARRAY(MAX(g > 2)), COUNT(*) FROM lab.Star GROUP BY kind
-- name: JSON and truth values 7
SELECT JSON_ARRAY(MAX(g > 2)) FROM lab.Star
-- name: JSON and truth values 8
SELECT JSON_ARRAY(MAX(JSON_OBJECT('k', kind))) FROM lab.Star
-- name: JSON and truth values 9
SELECT JSON_ARRAYAGG(DISTINCT g > 2) FROM lab.Star
-- name: JSON and truth values 10
SELECT JSON_ARRAYAGG(DISTINCT JSON_OBJECT('k', kind)) FROM lab.Star
-- name: JSON and truth values 11
SELECT JSON_ARRAY(JSON_OBJECT('k', kind)), COUNT(*) FROM lab.Star GROUP BY JSON_OBJECT('k', kind)
-- name: JSON and truth values 12
SELECT JSON_ARRAY(JSON_OBJECT('k', kind)), COUNT(*) FROM lab.Star GROUP BY 1
-- name: JSON and truth values 13
SELECT JSON_ARRAY(x.j) FROM (SELECT JSON_OBJECT('k', kind) j FROM lab.Star ORDER BY starId LIMIT 5) x
-- name: JSON and truth values 14
SELECT JSON_ARRAY(x.j) FROM (SELECT JSON_DETAILED(JSON_OBJECT('k', kind)) j FROM lab.Star ORDER BY starId LIMIT 5) x
-- name: JSON and truth values 15
SELECT JSON_OBJECT('o', (SELECT JSON_OBJECT('n', COUNT(*)) FROM lab.Star)) FROM lab.Lut
-- name: JSON and truth values 16
SELECT JSON_OBJECT('o', (SELECT COUNT(*) > 2 FROM lab.Star)) FROM lab.Lut
-- name: JSON and truth values 17
SELECT JSON_ARRAYAGG(JSON_OBJECT('k', kind)) FROM (SELECT kind FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 18
SELECT kind, JSON_ARRAYAGG(j) FROM (SELECT DISTINCT kind, JSON_ARRAY(kind) j FROM lab.Star) x GROUP BY kind
-- name: JSON and truth values 19
SELECT JSON_ARRAY(x.t) FROM (SELECT g > 2 t FROM lab.Star GROUP BY g > 2) x
-- name: JSON and truth values 20
SELECT JSON_ARRAY(x.t) FROM (SELECT DISTINCT g > 2 t FROM lab.Star) x
-- name: JSON and truth values 21
SELECT JSON_ARRAY(x.t) FROM (SELECT g > 2 t FROM lab.Star ORDER BY starId LIMIT 5) x
-- name: JSON and truth values 22
SELECT JSON_ARRAY(x.t) FROM (SELECT EXISTS(SELECT 1 FROM lab.Lut) t FROM lab.Star ORDER BY starId LIMIT 5) x
-- name: JSON and truth values 23
SELECT JSON_ARRAY(COUNT(*) > 3) FROM lab.Star
-- name: JSON and truth values 24
SELECT JSON_ARRAY(COUNT(*) > 3, kind) FROM lab.Star GROUP BY kind
-- name: JSON and truth values 25
SELECT JSON_ARRAY(x.c > 3, x.t) FROM (SELECT COUNT(*) c, COUNT(*) > 3 t FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 26
SELECT JSON_ARRAY(JSON_VALID(kind)), COUNT(*) FROM lab.Star GROUP BY JSON_VALID(kind)
-- name: JSON and truth values 27
SELECT JSON_ARRAY(x.b) FROM (SELECT JSON_CONTAINS('[1,2]', g) b FROM lab.Star ORDER BY starId LIMIT 3) x
-- name: JSON and truth values 28
SELECT DISTINCT JSON_ARRAY(g > 2) FROM lab.Star
-- name: JSON and truth values 29
SELECT DISTINCT g > 2, JSON_ARRAY(g > 2) FROM lab.Star
-- name: JSON and truth values 30
SELECT JSON_OBJECT('a', IF(kind = 'a', JSON_ARRAY(1), JSON_ARRAY(2))) j, COUNT(*) FROM lab.Star GROUP BY j
-- name: JSON and truth values 31
SELECT JSON_OBJECT('a', x.y) FROM (SELECT IF(kind = 'a', JSON_ARRAY(1), JSON_ARRAY(2)) y, COUNT(*) FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 32
SELECT JSON_MERGE_PATCH(j, '{"z": 1}'), JSON_EXTRACT(j, '$.k'), JSON_SET(j, '$.q', j) FROM (SELECT JSON_OBJECT('k', kind) j FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 33
SELECT JSON_SET(j, '$.q', t) FROM (SELECT JSON_OBJECT('k', kind) j, kind > 'b' t FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 34
SELECT JSON_ARRAY(MIN(x.j)), JSON_ARRAYAGG(x.j ORDER BY x.j) FROM (SELECT JSON_OBJECT('k', kind) j FROM lab.Star UNION SELECT JSON_OBJECT('k', 'q')) x
-- name: JSON and truth values 35
SELECT JSON_ARRAY(x.j) FROM (SELECT JSON_OBJECT('k', kind) j FROM lab.Star UNION SELECT 'a') x
-- name: JSON and truth values 36
SELECT JSON_ARRAY(FIRST_VALUE(JSON_ARRAY(starId)) OVER (ORDER BY starId)) FROM lab.Star
-- name: JSON and truth values 37
SELECT JSON_ARRAY(LAG(g > 2) OVER (ORDER BY starId)) FROM lab.Star
-- name: JSON and truth values 38
SELECT JSON_ARRAY(g > 2, ROW_NUMBER() OVER (ORDER BY starId)) FROM lab.Star
-- name: JSON and truth values 39
SELECT s.kind, JSON_ARRAYAGG(DISTINCT s.g > 2) FROM lab.Star s JOIN lab.Lut GROUP BY s.kind
-- name: JSON and truth values 40
SELECT kind, JSON_ARRAYAGG(DISTINCT g > 2) FROM lab.Star GROUP BY kind ORDER BY COUNT(*), kind
-- name: JSON and truth values 41
SELECT JSON_ARRAY(JSON_OBJECT('k', s.kind)), COUNT(*) FROM lab.Star s JOIN lab.Star l USING (starId) GROUP BY JSON_OBJECT('k', s.kind)
-- name: JSON and truth values 42
SELECT JSON_ARRAY(s.g > 2), COUNT(*) FROM lab.Star s JOIN lab.Star l USING (starId) GROUP BY s.g > 2
-- name: JSON and truth values 43
SELECT kind, JSON_ARRAY(MAX(g > 2)), COUNT(DISTINCT g) FROM lab.Star GROUP BY kind ORDER BY kind
-- name: JSON and truth values 44
SELECT JSON_ARRAY(g > 2), COUNT(*) FROM lab.Star GROUP BY g > 2 WITH ROLLUP
-- name: JSON and truth values 45
SELECT JSON_ARRAY((SELECT MAX(g > 2) FROM lab.Star))
-- name: JSON and truth values 46
SELECT JSON_ARRAY((SELECT MAX(g) > 2 FROM lab.Star), (SELECT g > 2 FROM lab.Star ORDER BY starId LIMIT 1), (SELECT DISTINCT g > 2 FROM lab.Star WHERE g IS NOT NULL ORDER BY 1 LIMIT 1))
-- name: JSON and truth values 47
SELECT JSON_ARRAY((SELECT g > 2 FROM lab.Star WHERE starId = 1 UNION SELECT 1 = 1 LIMIT 1))
-- name: JSON and truth values 48
SELECT JSON_ARRAY(x.j), COUNT(*) FROM (SELECT JSON_OBJECT('k', kind) j FROM lab.Star) x GROUP BY x.j
-- name: JSON and truth values 49
SELECT JSON_ARRAY(IF(COUNT(*) > 3, g > 2, NULL)), COUNT(*) FROM lab.Star GROUP BY g > 2
-- name: JSON and truth values 50
SELECT JSON_ARRAYAGG(x.j) FROM (SELECT JSON_EXTRACT('{"a": "x y"}', '$.a') j, COUNT(*) FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 51
SELECT JSON_ARRAY(MIN(x.j), MAX(x.j)), COUNT(*) FROM (SELECT JSON_OBJECT('k', kind) j FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 52
SELECT JSON_ARRAY(x.j, x.j) FROM (SELECT JSON_EXTRACT(CONCAT('{"a": "x ', kind, ' y"}'), '$.a') j FROM lab.Star GROUP BY kind) x
-- name: JSON and truth values 53
SELECT JSON_ARRAY(x.j, CONCAT(x.j, 'a'), x.j = 'x') FROM (SELECT JSON_EXTRACT(CONCAT('{"a": ', g, '}'), '$.a') j FROM lab.Star GROUP BY g) x
-- name: JSON and truth values 54
SELECT JSON_ARRAY(COUNT(*), JSON_OBJECT('k', kind)) FROM lab.Star GROUP BY kind
-- name: INTERSECT in a derived table beside one that binds tighter than EXCEPT
SELECT x.a FROM (SELECT starId AS a FROM lab.Star INTERSECT SELECT starId FROM lab.Visit) x EXCEPT SELECT n FROM lab.Lut INTERSECT SELECT starId FROM lab.Star
-- name: INTERSECT in parentheses beside one without
(SELECT starId AS a FROM lab.Star INTERSECT SELECT starId FROM lab.Visit) EXCEPT SELECT n FROM lab.Lut INTERSECT SELECT starId FROM lab.Star
