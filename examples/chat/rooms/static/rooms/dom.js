// Small helpers. All text goes in as text: nothing a person typed is ever parsed as HTML.

export function element(tag, { text, children = [], ...properties } = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

// The same name has the same colour in every window.
export function avatar(name) {
  let hash = 7;
  for (const char of name.toLowerCase()) hash = (hash * 31 + char.codePointAt(0)) % 3600;
  const made = element("span", { className: "avatar", "aria-hidden": "true", text: [...name][0].toUpperCase() });
  made.style.setProperty("--hue", hash / 10);
  return made;
}

export function badge(server) {
  const made = element("span", { className: "badge", text: server, title: `Server process ${server}` });
  made.dataset.server = server;
  return made;
}
