"""The first schema: every table, the journal's head, and the triggers."""

import sqlalchemy as sa
from alembic import op

from hsm.catalog.migrations import triggers_0001

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite gives out row ids only for INTEGER PRIMARY KEY.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SMALL_KEY = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
DIGEST = sa.LargeBinary(length=32)
UID = sa.LargeBinary(length=65)
# In code point order, as on SQLite, whatever the locale.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    _journal()
    _journal_head()
    _name()
    _patient()
    _run()
    _volume()
    _mount_request()
    _study()
    _package()
    _series()
    _copy()
    _instance()
    _request()
    _decision()
    _waiter()
    # The chain starts from 32 zero bytes.
    head = sa.table("journal_head", sa.column("pk"), sa.column("seq"), sa.column("digest", DIGEST))
    op.bulk_insert(head, [{"pk": 1, "seq": 0, "digest": bytes(32)}])
    for statement in triggers_0001.statements(op.get_bind().dialect.name):
        op.execute(statement)


def _journal() -> None:
    op.create_table(
        "journal",
        sa.Column("seq", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("verb", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("detail", TEXT, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_journal")),
    )
    op.create_index(op.f("ix_journal_subject"), "journal", ["subject"], unique=False)


def _journal_head() -> None:
    op.create_table(
        "journal_head",
        sa.Column("pk", sa.SmallInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.CheckConstraint("pk = 1", name=op.f("ck_journal_head_single")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_journal_head")),
    )


def _name() -> None:
    op.create_table(
        "name",
        sa.Column("pk", SMALL_KEY, nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_name_uid")),
    )


def _patient() -> None:
    op.create_table(
        "patient",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("patient_id", TEXT, nullable=False),
        sa.Column("issuer", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("name_alphabetic", TEXT, nullable=False),
        sa.Column("name_ideographic", TEXT, nullable=True),
        sa.Column("name_phonetic", TEXT, nullable=True),
        sa.Column("birth_date", TEXT, nullable=False),
        sa.Column("sex", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_patient")),
        sa.UniqueConstraint("key", name=op.f("uq_patient_key")),
    )
    op.create_index(op.f("ix_patient_birth_date"), "patient", ["birth_date"], unique=False)
    op.create_index(op.f("ix_patient_name_alphabetic"), "patient", ["name_alphabetic"], unique=False)
    op.create_index(
        "ix_patient_name_ideographic",
        "patient",
        ["name_ideographic"],
        unique=False,
        postgresql_where=sa.text("name_ideographic IS NOT NULL"),
        sqlite_where=sa.text("name_ideographic IS NOT NULL"),
    )
    op.create_index(
        "ix_patient_name_phonetic",
        "patient",
        ["name_phonetic"],
        unique=False,
        postgresql_where=sa.text("name_phonetic IS NOT NULL"),
        sqlite_where=sa.text("name_phonetic IS NOT NULL"),
    )
    op.create_index(op.f("ix_patient_patient_id"), "patient", ["patient_id"], unique=False)


def _run() -> None:
    op.create_table(
        "run",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("policy", TEXT, nullable=False),
        sa.Column("policy_digest", DIGEST, nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("matched", sa.Integer(), nullable=False),
        sa.Column("requested", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_run")),
    )


def _volume() -> None:
    op.create_table(
        "volume",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("uuid", TEXT, nullable=False),
        sa.Column("pool", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("removable", sa.Boolean(), nullable=False),
        sa.Column("capacity", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("library", TEXT, nullable=True),
        sa.Column("place", TEXT, nullable=False),
        sa.Column("element", sa.Integer(), nullable=True),
        sa.Column("shelf", TEXT, nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint(
            "place IN ('mounted', 'slot', 'mail', 'drive', 'shelf', 'unknown')", name=op.f("ck_volume_place")
        ),
        sa.CheckConstraint(
            "state IN ('scratch', 'labelled', 'active', 'full', 'suspect', 'retired', 'lost')",
            name=op.f("ck_volume_state"),
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_volume")),
        sa.UniqueConstraint("name", name=op.f("uq_volume_name")),
        sa.UniqueConstraint("uuid", name=op.f("uq_volume_uuid")),
    )
    op.create_index(op.f("ix_volume_pool"), "volume", ["pool"], unique=False)


def _mount_request() -> None:
    op.create_table(
        "mount_request",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("volume_pk", KEY, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("answered_at", TIME, nullable=True),
        sa.Column("answered_by", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.CheckConstraint(
            "state IN ('open', 'done', 'refused', 'obsolete')", name=op.f("ck_mount_request_state")
        ),
        sa.ForeignKeyConstraint(["volume_pk"], ["volume.pk"], name=op.f("fk_mount_request_volume_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_mount_request")),
    )
    op.create_index(
        "uq_mount_request_open",
        "mount_request",
        ["volume_pk"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )


def _study() -> None:
    op.create_table(
        "study",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("patient_pk", KEY, nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("date", TEXT, nullable=False),
        sa.Column("time", TEXT, nullable=False),
        sa.Column("study_id", TEXT, nullable=False),
        sa.Column("accession", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("referring_physician", TEXT, nullable=False),
        sa.Column("referring_alphabetic", TEXT, nullable=False),
        sa.Column("referring_ideographic", TEXT, nullable=True),
        sa.Column("referring_phonetic", TEXT, nullable=True),
        sa.Column("institution", TEXT, nullable=False),
        sa.Column("charset", TEXT, nullable=False),
        sa.Column("modalities", TEXT, nullable=False),
        sa.Column("n_series", sa.Integer(), nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_ae", TEXT, nullable=False),
        sa.Column("first_received", TIME, nullable=False),
        sa.Column("last_received", TIME, nullable=False),
        sa.Column("last_accessed", TIME, nullable=False),
        sa.Column("unsealed", sa.Integer(), nullable=False),
        sa.Column("packages", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["patient_pk"], ["patient.pk"], name=op.f("fk_study_patient_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_study")),
        sa.UniqueConstraint("uid", name=op.f("uq_study_uid")),
    )
    op.create_index(op.f("ix_study_accession"), "study", ["accession"], unique=False)
    op.create_index(op.f("ix_study_date"), "study", ["date"], unique=False)
    op.create_index(op.f("ix_study_last_received"), "study", ["last_received"], unique=False)
    op.create_index(op.f("ix_study_patient_pk"), "study", ["patient_pk"], unique=False)
    op.create_index(op.f("ix_study_referring_alphabetic"), "study", ["referring_alphabetic"], unique=False)
    op.create_index(
        "ix_study_referring_ideographic",
        "study",
        ["referring_ideographic"],
        unique=False,
        postgresql_where=sa.text("referring_ideographic IS NOT NULL"),
        sqlite_where=sa.text("referring_ideographic IS NOT NULL"),
    )
    op.create_index(
        "ix_study_referring_phonetic",
        "study",
        ["referring_phonetic"],
        unique=False,
        postgresql_where=sa.text("referring_phonetic IS NOT NULL"),
        sqlite_where=sa.text("referring_phonetic IS NOT NULL"),
    )
    op.create_index(
        "ix_study_unsealed",
        "study",
        ["last_received"],
        unique=False,
        postgresql_where=sa.text("unsealed > 0"),
        sqlite_where=sa.text("unsealed > 0"),
    )


def _package() -> None:
    op.create_table(
        "package",
        sa.Column("pk", sa.Integer(), nullable=False),
        sa.Column("study_pk", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.Column("sealed_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_package_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_package")),
        sa.UniqueConstraint("key", name=op.f("uq_package_key")),
        sa.UniqueConstraint("study_pk", "number", name=op.f("uq_package_study_pk_number")),
    )


def _series() -> None:
    op.create_table(
        "series",
        sa.Column("pk", sa.Integer(), nullable=False),
        sa.Column("study_pk", KEY, nullable=False),
        sa.Column("uid", TEXT, nullable=False),
        sa.Column("modality", TEXT, nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("body_part", TEXT, nullable=False),
        sa.Column("date", TEXT, nullable=False),
        sa.Column("time", TEXT, nullable=False),
        sa.Column("station", TEXT, nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_series_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_series")),
        sa.UniqueConstraint("study_pk", "uid", name=op.f("uq_series_study_pk_uid")),
    )
    op.create_index(op.f("ix_series_uid"), "series", ["uid"], unique=False)


def _copy() -> None:
    op.create_table(
        "copy",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("package_pk", sa.Integer(), nullable=False),
        sa.Column("volume_pk", KEY, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("locator", TEXT, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("written_at", TIME, nullable=True),
        sa.Column("verified_at", TIME, nullable=True),
        sa.CheckConstraint(
            "state <> 'verified' OR verified_at IS NOT NULL", name=op.f("ck_copy_verified_at")
        ),
        sa.CheckConstraint(
            "state IN ('writing', 'written', 'verified', 'suspect', 'releasing', 'released', 'lost')",
            name=op.f("ck_copy_state"),
        ),
        sa.ForeignKeyConstraint(["package_pk"], ["package.pk"], name=op.f("fk_copy_package_pk")),
        sa.ForeignKeyConstraint(["volume_pk"], ["volume.pk"], name=op.f("fk_copy_volume_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_copy")),
        sa.UniqueConstraint("package_pk", "volume_pk", name=op.f("uq_copy_package_pk_volume_pk")),
    )
    op.create_index(op.f("ix_copy_volume_pk"), "copy", ["volume_pk"], unique=False)


def _instance() -> None:
    op.create_table(
        "instance",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=True),
        sa.Column("series_pk", sa.Integer(), nullable=False),
        sa.Column("package_pk", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("class_pk", SMALL_KEY, nullable=False),
        sa.Column("syntax_pk", SMALL_KEY, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("uid", UID, nullable=False),
        sa.CheckConstraint('(package_pk IS NULL) = ("offset" IS NULL)', name=op.f("ck_instance_sealed")),
        sa.ForeignKeyConstraint(["class_pk"], ["name.pk"], name=op.f("fk_instance_class_pk")),
        sa.ForeignKeyConstraint(["package_pk"], ["package.pk"], name=op.f("fk_instance_package_pk")),
        sa.ForeignKeyConstraint(["series_pk"], ["series.pk"], name=op.f("fk_instance_series_pk")),
        sa.ForeignKeyConstraint(["syntax_pk"], ["name.pk"], name=op.f("fk_instance_syntax_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_instance")),
        sa.UniqueConstraint("uid", "version", name=op.f("uq_instance_uid_version")),
        postgresql_with={"autovacuum_vacuum_scale_factor": 0.02},
    )
    op.create_index(op.f("ix_instance_series_pk"), "instance", ["series_pk"], unique=False)


def _request() -> None:
    op.create_table(
        "request",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("study_pk", KEY, nullable=True),
        sa.Column("package_pk", sa.Integer(), nullable=True),
        sa.Column("volume_pk", KEY, nullable=True),
        sa.Column("pool", TEXT, nullable=True),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("worker", TEXT, nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "(state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_request_finished"),
        ),
        sa.CheckConstraint(
            "kind IN ('seal', 'copy', 'verify', 'recall', 'release', 'deliver')", name=op.f("ck_request_kind")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'active', 'waiting', 'done', 'failed', 'cancelled')",
            name=op.f("ck_request_state"),
        ),
        sa.ForeignKeyConstraint(["package_pk"], ["package.pk"], name=op.f("fk_request_package_pk")),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_request_study_pk")),
        sa.ForeignKeyConstraint(["volume_pk"], ["volume.pk"], name=op.f("fk_request_volume_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_request")),
    )
    op.create_index(op.f("ix_request_package_pk"), "request", ["package_pk"], unique=False)
    op.create_index("ix_request_queue", "request", ["state", "priority", "pk"], unique=False)
    op.create_index(op.f("ix_request_study_pk"), "request", ["study_pk"], unique=False)
    op.create_index(
        "uq_request_live_key",
        "request",
        ["key"],
        unique=True,
        postgresql_where=sa.text("state IN ('queued', 'active', 'waiting')"),
        sqlite_where=sa.text("state IN ('queued', 'active', 'waiting')"),
    )


def _decision() -> None:
    op.create_table(
        "decision",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("run_pk", KEY, nullable=False),
        sa.Column("study_pk", KEY, nullable=False),
        sa.Column("rule", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("pool", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("request_pk", KEY, nullable=True),
        sa.ForeignKeyConstraint(["request_pk"], ["request.pk"], name=op.f("fk_decision_request_pk")),
        sa.ForeignKeyConstraint(["run_pk"], ["run.pk"], name=op.f("fk_decision_run_pk")),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_decision_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_decision")),
    )
    op.create_index(op.f("ix_decision_run_pk"), "decision", ["run_pk"], unique=False)
    op.create_index(op.f("ix_decision_study_pk"), "decision", ["study_pk"], unique=False)


def _waiter() -> None:
    op.create_table(
        "waiter",
        sa.Column("pk", KEY, nullable=False),
        sa.Column("request_pk", KEY, nullable=False),
        sa.Column("who", TEXT, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["request_pk"], ["request.pk"], name=op.f("fk_waiter_request_pk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_waiter")),
    )
    op.create_index(op.f("ix_waiter_request_pk"), "waiter", ["request_pk"], unique=False)
