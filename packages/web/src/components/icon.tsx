/** Line icons, drawn here: 24 units square, in the colour of the text. Decoration: what they mean is said beside them. */
const PATHS = {
  chart: 'M4 4v16h16M8 14l4-5 3 3 5-6',
  plus: 'M12 5v14M5 12h14',
  table: 'M4 5h16v14H4zM4 10h16M4 14.5h16M10 10v9',
  chat: 'M5 5h14v11H11l-4 4v-4H5z',
  server: 'M5 4h14v7H5zM5 13h14v7H5zM8.5 7.5h.01M8.5 16.5h.01',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M5.6 18.4l1.1-1.1M17.3 6.7l1.1-1.1',
  moon: 'M19.5 14.2A8 8 0 0 1 9.8 4.5a8 8 0 1 0 9.7 9.7',
  screen: 'M4 5h16v11H4zM9 20h6M12 16v4',
  out: 'M14 4h5v16h-5M4 12h11M11 8l4 4-4 4',
  copy: 'M9 9h10v11H9zM6 15H5V4h10v2',
  check: 'M5 12.5l4.5 4.5L19 7',
  close: 'M6 6l12 12M18 6L6 18',
  search: 'M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12M15.5 15.5L20 20',
  up: 'M12 19V6M6.5 11L12 5.5 17.5 11',
  down: 'M12 5v13M6.5 13l5.5 5.5 5.5-5.5',
  left: 'M19 12H6M11 6.5L5.5 12l5.5 5.5',
  right: 'M5 12h13M13 6.5l5.5 5.5-5.5 5.5',
  play: 'M8 5.5v13l10-6.5z',
  pause: 'M8.5 6v12M15.5 6v12',
  stop: 'M7 7h10v10H7z',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5',
  download: 'M12 4v11M7 10.5l5 5 5-5M5 19.5h14',
  upload: 'M12 16V5M7 9.5l5-5 5 5M5 19.5h14',
  refresh: 'M19.5 12a7.5 7.5 0 1 1-2.2-5.3L19.5 9M19.5 4.5V9H15',
  warning: 'M12 4.5L21 19.5H3zM12 10v4.5M12 17h.01',
  info: 'M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17M12 11v5.5M12 7.5h.01',
  key: 'M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8M11 12.2L19.5 4M16 7.5l2.5 2.5',
  more: 'M6 12h.01M12 12h.01M18 12h.01',
  branch:
    'M7 4v10M7 20a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5M17 9a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5M17 9c0 4-3 5.5-8 6',
  book: 'M5 5.5C7.500 4.500 10 4.500 12 6c2-1.500 4.500-1.500 7-.5v13c-2.500-1-5-1-7 .5-2-1.500-4.500-1.500-7-.5zM12 6v13',
  edit: 'M5 19l1-4L16.500 4.500a2 2 0 0 1 3 3L9 18zM14.500 6.500l3 3',
  chevron: 'M7 10l5 5 5-5',
  code: 'M8.500 7.500L4 12l4.500 4.500M15.500 7.500L20 12l-4.500 4.500',
  sliders: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4',
} as const
export type IconName = keyof typeof PATHS

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" width={size} height={size} aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  )
}
