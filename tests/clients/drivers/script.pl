# The script with Perl's DBD::MariaDB: client-side and server-side prepared statements, metadata, cancel by KILL.
use strict;
use warnings;
use DBI;
use JSON::PP;
use POSIX ();

binmode(STDOUT, ":utf8");
my %sql = map { chomp; split(/\t/, $_, 2) } do { open(my $f, "<:encoding(UTF-8)", $ENV{SCRIPT}) or die $!; <$f> };
my $json = JSON::PP->new->canonical->allow_nonref;

sub say_step { my ($step, $value) = @_; print $step, "\t", $json->encode($value), "\n"; $| = 1; }

sub dial {
    my ($server) = @_;
    my $source = "DBI:MariaDB:database=hip;host=$ENV{HOST};port=$ENV{PORT};mariadb_server_prepare=$server";
    $source .= ";mariadb_ssl=1;mariadb_ssl_optional=1;mariadb_ssl_ca_file=$ENV{CA};mariadb_ssl_verify_server_cert=0" if $ENV{CA};
    return DBI->connect($source, $ENV{DBUSER}, $ENV{PASSWORD}, { RaiseError => 1, PrintError => 0, AutoInactiveDestroy => 1 });
}

sub rows {
    my ($connection, $sql, @values) = @_;
    my $statement = $connection->prepare($sql);
    $statement->execute(@values);
    return [] unless $statement->{NUM_OF_FIELDS};
    my @columns = map { [ $statement->{NAME}[$_], $statement->{TYPE}[$_], $statement->{PRECISION}[$_], $statement->{NULLABLE}[$_] ] }
        0 .. $statement->{NUM_OF_FIELDS} - 1;
    my $found = [ map { [ map { defined $_ ? "$_" : undef } @$_ ] } @{ $statement->fetchall_arrayref } ];
    return [ \@columns, $found ];
}

my $db = dial(0);
rows($db, $_) for "DROP DATABASE IF EXISTS $ENV{DB}", "CREATE DATABASE $ENV{DB} CHARACTER SET utf8mb4", $sql{own_make}, $sql{own_fill};
say_step("tables", [ $db->tables("%", "lab", "%", "TABLE") ]);
my $columns = $db->column_info(undef, "lab", "Star", "%")->fetchall_arrayref;
say_step("columns", $columns);
say_step("primary", [ $db->primary_key(undef, $ENV{DB}, "kinds") ]);
for my $server (0, 1) {
    my $one = dial($server);
    for my $step (qw(typed every merged own_read)) { say_step("$step $server", rows($one, $sql{$step})); }
    say_step("parameters $server", rows($one, $sql{parameters}, 3, 7, "12", "a b"));
    say_step("merged parameters $server", rows($one, $sql{parameters_merged}, -500.5, "2024-02-29 12:34:30"));
    for my $step (sort grep { /^error_/ } keys %sql) {
        eval { say_step("$step $server", rows($one, $sql{$step})); 1 }
            or say_step("$step $server", [ $one->err, $one->state, $one->errstr ]);
    }
    $one->disconnect;
}
{
    my $statement = $db->prepare($sql{stream}, { mariadb_use_result => 1 });
    $statement->execute;
    my ($count, $keys) = (0, 0);
    while (my $row = $statement->fetchrow_arrayref) { $count++; $keys += $row->[0]; }
    say_step("stream", [ $count, "$keys" ]);
}
{
    my $victim = $db->{mariadb_thread_id};
    my $child = fork();
    if (!$child) {
        my $other = dial(0);
        select(undef, undef, undef, 0.3);
        $other->do("KILL QUERY $victim");
        $other->disconnect;
        POSIX::_exit(0);
    }
    eval { say_step("cancel", rows($db, $sql{slow})); 1 } or say_step("cancel", [ $db->err, $db->state ]);
    waitpid($child, 0);
    say_step("afterwards", rows($db, "SELECT 1"));
}
$db->begin_work;
say_step("inside", rows($db, $sql{inside}));
rows($db, $sql{change});
$db->rollback;
say_step("after", rows($db, $sql{after}));
rows($db, $sql{$_}) for qw(temporary temporary_fill warned);
say_step("warnings", rows($db, $sql{warnings}));
for my $step (qw(temporary_read)) { say_step($step, rows($db, $sql{$step})); }
say_step("ping", $db->ping ? 1 : 0);
rows($db, "DROP DATABASE $ENV{DB}");
$db->disconnect;
