"""A user's table as a temporary one: its CREATE TABLE without what a temporary table cannot have."""

from proxy.home.own_tables import _not_unique, clean_ddl

SHOWN = """CREATE TABLE `t, (` (
  `id` int(11) NOT NULL AUTO_INCREMENT COMMENT 'a, ''b'' ) ENGINE=x',
  `other` int(11) DEFAULT NULL,
  `twice` int(11) GENERATED ALWAYS AS (`id` * 2) VIRTUAL,
  PRIMARY KEY (`id`),
  KEY `other` (`other`),
  UNIQUE KEY `long` (`words`,`other`) USING HASH,
  UNIQUE KEY `count` (`id`) USING HASH,
  FULLTEXT KEY `words` (`words`),
  CONSTRAINT `fk` FOREIGN KEY (`other`) REFERENCES `u` (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=latin1 COLLATE=latin1_bin ROW_FORMAT=COMPRESSED
 PARTITION BY HASH (`id`)
PARTITIONS 4"""


def test_what_a_temporary_table_cannot_have_is_left_out():
    assert clean_ddl(SHOWN, "t") == (
        "CREATE TABLE `t` (\n"
        "  `id` int(11) NOT NULL AUTO_INCREMENT COMMENT 'a, ''b'' ) ENGINE=x',\n"
        "  `other` int(11) DEFAULT NULL,\n"
        "  `twice` int(11) GENERATED ALWAYS AS (`id` * 2) VIRTUAL,\n"
        "  PRIMARY KEY (`id`),\n"
        "  KEY `other` (`other`),\n"
        "  UNIQUE KEY `count` (`id`) USING HASH\n"
        ") DEFAULT CHARSET=latin1 COLLATE=latin1_bin"
    )


def test_a_split_table_has_no_unique_keys():
    body = "  `a` int(11) COMMENT 'a UNIQUE KEY',\n  PRIMARY KEY (`a`),\n  UNIQUE KEY `b` (`a`)\n)"
    assert _not_unique(body) == (
        "  `a` int(11) COMMENT 'a UNIQUE KEY',\n  KEY `skyPrimary` (`a`),\n  KEY `b` (`a`)\n)"
    )
