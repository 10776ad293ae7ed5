import { useState } from 'preact/hooks'
import { Button } from './button.tsx'
import { toast } from './toast.tsx'

export function CopyButton({ text, label = 'Copy', quiet = true }: { text: string; label?: string; quiet?: boolean }) {
  const [done, setDone] = useState(false)
  const copy = async () => {
    try {
      await write(text)
      setDone(true)
      setTimeout(() => setDone(false), 1500)
    } catch {
      toast('The browser does not allow copying here: select the text and copy it', 'bad')
    }
  }
  return quiet ? (
    <Button
      variant="ghost"
      size="small"
      icon={done ? 'check' : 'copy'}
      label={done ? 'Copied' : label}
      onClick={copy}
    />
  ) : (
    <Button size="small" icon={done ? 'check' : 'copy'} onClick={copy}>
      {done ? 'Copied' : label}
    </Button>
  )
}

/** The clipboard's interface is there on localhost and over HTTPS alone; a server in the local network is neither. */
async function write(text: string): Promise<void> {
  if (navigator.clipboard) return await navigator.clipboard.writeText(text)
  const area = document.createElement('textarea')
  area.value = text
  area.className = 'visually-hidden'
  document.body.append(area)
  area.select()
  const done = document.execCommand('copy')
  area.remove()
  if (!done) throw new Error('refused')
}
