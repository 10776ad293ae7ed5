/** Where files are dropped or chosen, and how far each upload is. */
import type { UploadResponse } from '@mlx-training/sdk'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { Badge } from '../../components/badge.tsx'
import { Button } from '../../components/button.tsx'
import { Progress } from '../../components/facts.tsx'
import { Icon } from '../../components/icon.tsx'
import { toast } from '../../components/toast.tsx'
import { bytes, counted, percent } from '../../format.ts'
import { upload } from './upload.ts'

interface Upload {
  id: number
  file: File
  share: number
  done: UploadResponse | null
  error: string | null
  abort: AbortController
}

/** What the server can read; the browser's dialog greys out the rest. */
const ACCEPTED = '.json,.jsonl,.ndjson,.csv,.tsv,.parquet,.gz'

export interface DropZoneProps {
  /** `alone`: no other file came with it. */
  onUploaded: (data: UploadResponse, alone: boolean) => void
  /** One line of it, beside other things. */
  small?: boolean
}

export function DropZone({ onUploaded, small = false }: DropZoneProps) {
  const [uploads, setUploads] = useState<readonly Upload[]>([])
  const [over, setOver] = useState(false)
  const input = useRef<HTMLInputElement>(null)
  const running = useRef<AbortController[]>([])
  const left = useRef(false)
  const next = useRef(1)
  const id = useId()
  const change = (id: number, to: Partial<Upload>) =>
    setUploads((all) => all.map((one) => (one.id === id ? { ...one, ...to } : one)))

  const take = async (file: File, alone: boolean) => {
    const one: Upload = { id: next.current++, file, share: 0, done: null, error: null, abort: new AbortController() }
    running.current.push(one.abort)
    setUploads((all) => [...all, one])
    try {
      const done = await upload(file, (share) => change(one.id, { share }), one.abort.signal)
      change(one.id, { done })
      if (done.already_there) toast(`${done.name} had been uploaded before`)
      onUploaded(done, alone)
    } catch (error) {
      if (one.abort.signal.aborted) setUploads((all) => all.filter(({ id }) => id !== one.id))
      else change(one.id, { error: error instanceof Error ? error.message : String(error) })
    }
  }
  const takeAll = async (files: FileList | null | undefined) => {
    const all = [...(files ?? [])]
    // One after the other, so that the first is there first.
    for (const file of all) if (!left.current) await take(file, all.length === 1)
  }
  const latest = useRef(takeAll)
  latest.current = takeAll

  // Wherever on the page a file is dropped: beside the box, the browser would open it in place of the page.
  useEffect(() => {
    const away = new AbortController()
    const { signal } = away
    const isFile = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes('Files') ?? false
    const dragged = (event: DragEvent) => {
      if (!isFile(event)) return
      event.preventDefault()
      setOver(true)
    }
    const dropped = (event: DragEvent) => {
      if (!isFile(event)) return
      event.preventDefault()
      setOver(false)
      void latest.current(event.dataTransfer?.files)
    }
    window.addEventListener('dragover', dragged, { signal })
    window.addEventListener('dragleave', (event) => event.relatedTarget === null && setOver(false), { signal })
    window.addEventListener('drop', dropped, { signal })
    return () => {
      // Whoever leaves the page no longer wants what was under way.
      left.current = true
      away.abort()
      for (const abort of running.current) abort.abort()
    }
  }, [])

  return (
    <div class="stack">
      <div class={`drop-zone${over ? ' over' : ''}${small ? ' small' : ''}`}>
        <Icon name="upload" size={small ? 20 : 26} />
        <p>
          Drop a file here, or{' '}
          <label class="link" for={id}>
            choose one
          </label>
        </p>
        <p class="muted small">JSON, JSON Lines, CSV, TSV or Parquet, also as .gz</p>
        <input
          ref={input}
          id={id}
          class="visually-hidden"
          type="file"
          multiple
          accept={ACCEPTED}
          aria-label="Files to upload"
          onChange={(event) => {
            void takeAll(event.currentTarget.files).then(() => {
              // The same file may be chosen again after it was mended.
              if (input.current) input.current.value = ''
            })
          }}
        />
      </div>
      {uploads.length > 0 && (
        <ul class="uploads" aria-label="Uploads">
          {uploads.map((one) => (
            <li key={one.id}>
              <UploadLine one={one} onClose={() => setUploads((all) => all.filter(({ id }) => id !== one.id))} />
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}

function UploadLine({ one, onClose }: { one: Upload; onClose: () => void }) {
  const { file, share, done, error, abort } = one
  const state = done
    ? counted(done.rows, 'row')
    : share < 1
      ? `${percent(share * 100)} of ${bytes(file.size)}`
      : 'checking the rows'
  return (
    <div class="upload">
      <div class="upload-head">
        <strong>{done ? <a href={`/data/${done.id}`}>{file.name}</a> : file.name}</strong>
        {done && <Badge tone={done.valid ? 'good' : 'bad'}>{done.valid ? 'valid' : 'has errors'}</Badge>}
        {!error && <span class="muted small">{state}</span>}
        <Button
          variant="ghost"
          size="small"
          icon="close"
          label={done || error ? `Hide ${file.name}` : `Cancel the upload of ${file.name}`}
          onClick={() => (done || error ? onClose() : abort.abort())}
        />
      </div>
      {!done && !error && <Progress value={share * 100} label={`Upload of ${file.name}`} />}
      {error && (
        <p class="field-error" role="alert">
          {error}
        </p>
      )}
    </div>
  )
}
