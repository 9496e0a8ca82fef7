"""Creates the buckets named as arguments, where they are not there yet. Address and keys come from the environment."""

import sys

import boto3
from botocore.exceptions import ClientError

store = boto3.client("s3")
for bucket in sys.argv[1:]:
    try:
        store.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    store.head_bucket(Bucket=bucket)  # also proves that the keys open a bucket that was there
    print(f"bucket {bucket} is there")
