/** Uploaded data sets, and where more are uploaded. */
import '../styles/data.css'
import type { DatasetSummary } from '@mlx-training/sdk'
import { useEffect, useState } from 'preact/hooks'
import { Badge } from '../components/badge.tsx'
import { Button } from '../components/button.tsx'
import { Card } from '../components/facts.tsx'
import { Icon } from '../components/icon.tsx'
import { PageHead } from '../components/page-head.tsx'
import { EmptyState, ErrorState, Skeleton } from '../components/states.tsx'
import { type Column, type Sorting, Table } from '../components/table.tsx'
import { toastError } from '../components/toast.tsx'
import { ago, bytes, count, moment } from '../format.ts'
import { useLoad } from '../live/load.ts'
import { navigate } from '../router.ts'
import { can, client } from '../session.ts'
import { useTitle } from '../title.ts'
import { DropZone } from './data/drop-zone.tsx'

const PAGE = 100

export default function Datasets() {
  useTitle('Data sets')
  const { data, error, reload } = useLoad((api, signal) => api.datasets.list({ limit: PAGE }, { signal }), [])
  /** Pages after the first. */
  const [more, setMore] = useState<{ rows: DatasetSummary[]; next: string | null }>({ rows: [], next: null })
  const [busy, setBusy] = useState(false)
  useEffect(() => setMore({ rows: [], next: data?.next ?? null }), [data])

  const loadMore = async () => {
    if (more.next === null) return
    setBusy(true)
    try {
      const page = await client.peek().datasets.list({ limit: PAGE, after: more.next })
      setMore(({ rows }) => ({ rows: [...rows, ...page.datasets], next: page.next }))
    } catch (failed) {
      toastError(failed)
    } finally {
      setBusy(false)
    }
  }
  const all = [...(data?.datasets ?? []), ...more.rows]
  const mayUpload = can('train')
  return (
    <>
      <PageHead
        title="Data sets"
        lead="Rows to learn from: checked when they arrive, kept once, named by their id in a run"
      />
      {mayUpload && (
        <DropZone
          small={all.length > 0}
          onUploaded={({ id }, alone) => {
            reload()
            // The first one is what a newcomer wants to see.
            if (all.length === 0 && alone) navigate(`/data/${id}`)
          }}
        />
      )}
      {error && !data ? (
        <ErrorState error={error} onRetry={reload} />
      ) : !data ? (
        <Skeleton lines={6} />
      ) : all.length === 0 ? (
        <Nothing mayUpload={mayUpload} />
      ) : (
        <List datasets={all} />
      )}
      {more.next !== null && (
        <div class="row">
          <Button busy={busy} onClick={loadMore}>
            Show more
          </Button>
        </div>
      )}
    </>
  )
}

function Nothing({ mayUpload }: { mayUpload: boolean }) {
  return (
    <Card>
      <EmptyState
        icon="table"
        title="No data sets yet"
        text={
          mayUpload
            ? 'Drop a file of instructions, conversations or texts above. Its format is found, every row is checked, and an invalid one is kept to be looked at and cleaned. Files on the server need no upload: a run takes their path.'
            : 'Your key may not upload any. Files on the server need no upload: a run takes their path.'
        }
      />
    </Card>
  )
}

const COLUMNS: readonly Column<DatasetSummary>[] = [
  {
    id: 'name',
    label: 'Name',
    main: true,
    sort: ({ name }) => name.toLowerCase(),
    cell: ({ id, name, origin }) => (
      <>
        <a href={`/data/${id}`}>{name}</a>
        {origin && <span class="muted small nowrap"> {origin.operation === 'clean' ? 'cleaned' : origin.part}</span>}
      </>
    ),
  },
  {
    id: 'state',
    label: 'State',
    sort: ({ valid }) => (valid ? 1 : 0),
    cell: ({ valid }) => <Badge tone={valid ? 'good' : 'bad'}>{valid ? 'valid' : 'has errors'}</Badge>,
  },
  { id: 'format', label: 'Format', sort: ({ format }) => format ?? '', cell: ({ format }) => format ?? 'none' },
  {
    id: 'rows',
    label: 'Rows',
    align: 'right',
    sort: ({ rows }) => rows,
    cell: ({ rows, valid_rows }) =>
      valid_rows === rows ? count(rows) : `${count(rows)}, ${count(rows - valid_rows)} bad`,
  },
  { id: 'size', label: 'Size', align: 'right', sort: ({ bytes }) => bytes, cell: ({ bytes: size }) => bytes(size) },
  {
    id: 'used',
    label: 'Experiments',
    align: 'right',
    from: 'medium',
    sort: ({ experiments }) => experiments.length,
    cell: ({ experiments }) => count(experiments.length),
  },
  {
    id: 'created',
    label: 'Uploaded',
    sort: ({ created_at }) => created_at,
    cell: ({ created_at }) => <span title={moment(created_at)}>{ago(created_at)}</span>,
  },
  { id: 'id', label: 'Id', from: 'wide', cell: ({ id }) => <code>{id}</code> },
]

function List({ datasets }: { datasets: readonly DatasetSummary[] }) {
  const [search, setSearch] = useState('')
  const [sorting, setSorting] = useState<Sorting>({ by: 'created', descending: true })
  const wanted = search.trim().toLowerCase()
  const found = datasets.filter(({ name, id }) => name.toLowerCase().includes(wanted) || id === wanted)
  return (
    <Card
      flush
      title={datasets.length === 1 ? '1 data set' : `${count(datasets.length)} data sets`}
      actions={
        <div class="search">
          <Icon name="search" />
          <input
            class="input"
            type="search"
            aria-label="Search the data sets"
            placeholder="Search"
            value={search}
            onInput={(event) => setSearch(event.currentTarget.value)}
          />
        </div>
      }
    >
      {found.length === 0 ? (
        <EmptyState
          icon="search"
          title="None is called so"
          action={{ label: 'Show all', onClick: () => setSearch('') }}
        />
      ) : (
        <Table
          caption="Data sets"
          columns={COLUMNS}
          rows={found}
          rowKey={({ id }) => id}
          sorting={sorting}
          onSort={setSorting}
        />
      )}
    </Card>
  )
}
