"""Writes the Parquet files that the tests read. Run once, with any pyarrow: python make.py

Each holds the rows of alpaca.json or messages.json, which stand beside it.
"""

import base64
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

HERE = Path(__file__).parent


def rows(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


ALPACA = pa.Table.from_pylist(rows("alpaca.json"))
TURN = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int64())])
MESSAGES = pa.Table.from_pylist(
    rows("messages.json"), schema=pa.schema([("messages", pa.list_(TURN)), ("id", pa.int64())])
)

for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    pq.write_table(ALPACA, HERE / f"alpaca.{codec}.parquet", compression=codec, row_group_size=2)

# Other encodings: no dictionary, deltas, pages of version 2, an index of pages.
pq.write_table(
    ALPACA,
    HERE / "alpaca.delta.parquet",
    use_dictionary=False,
    column_encoding={"instruction": "DELTA_BYTE_ARRAY", "output": "DELTA_LENGTH_BYTE_ARRAY", "input": "PLAIN"},
    data_page_version="2.0",
    compression="zstd",
)
pq.write_table(MESSAGES, HERE / "messages.snappy.parquet", compression="snappy", row_group_size=2)
pq.write_table(
    MESSAGES,
    HERE / "messages.index.parquet",
    compression="zstd",
    data_page_version="2.0",
    data_page_size=64,
    write_batch_size=1,
    write_page_index=True,
)
pq.write_table(ALPACA.slice(0, 0), HERE / "empty.parquet")

# LZO, which nobody writes any more: the codec of ColumnMetaData (Thrift compact, field 4: i32) changed from ZSTD (6) to 3.
zstd = (HERE / "alpaca.zstd.parquet").read_bytes()
(HERE / "alpaca.lzo.parquet").write_bytes(zstd.replace(b"\x15\x0c\x16", b"\x15\x06\x16"))


class Keys(pe.KmsClient):
    """Wraps keys by not wrapping them: the tests only see that a file is encrypted."""

    def wrap_key(self, key, master_key_identifier):
        return base64.b64encode(key)

    def unwrap_key(self, wrapped, master_key_identifier):
        return base64.b64decode(wrapped)


for name, plaintext_footer in [("encrypted", False), ("encrypted-columns", True)]:
    properties = pe.CryptoFactory(lambda config: Keys()).file_encryption_properties(
        pe.KmsConnectionConfig(),
        pe.EncryptionConfiguration(
            footer_key="footer", column_keys={"columns": ["output"]}, plaintext_footer=plaintext_footer
        ),
    )
    pq.write_table(ALPACA, HERE / f"{name}.parquet", encryption_properties=properties)
