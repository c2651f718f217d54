"""Which texts are pages of gambling sites or of shops for accounts.

Such a page names many goods and makes many offers, close together. Neither says much alone:
travellers write about casinos, and shops that are honest have customers who log in. A list of the
sites' names would be old by next year. Words are looked for in the folded text, where 亚 博 and
娛樂 are 亚博 and 娱乐. Knows nothing of thresholds.
"""

import re
from collections.abc import Sequence

import numpy as np

from beam_pipelines.characters import folded
from beam_pipelines.ideographs import simplified

_GAMES = (
    "百家乐 六合彩 时时彩 老虎机 轮盘 龙虎斗 牛牛 德州扑克 捕鱼 棋牌 彩票 赛车 飞艇 快三 快3 "
    "pk10 一肖 一码 特码 马会 计划群 博彩 彩金 赌场 赌城 投注 下注 赔率 盘口 滚球 葡京 太阳城 "
    "威尼斯人 新濠天地 bet365 金宝博 威廉希尔 必赢 必威 亚博 华体会 米乐 乐鱼 开云体育 "
    "乐鱼体育 开云 欧宝 爱游戏 m6 娱乐城 现金网 贵宾会 娱乐平台 真人娱乐 真人视讯 真人荷官 "
    "电子游艺 太阳城娱乐 金沙娱乐 永利娱乐 皇冠体育 线上娱乐 网上娱乐 在线娱乐 pg电子 ag真人 "
    "jdb电子 体育app 体育官网 体育官方网 体育登录 体育下载 体育平台 体育投注"
).split()
_GAMING_OFFERS = (
    "注册送 注册即送 注册就送 注册领 送彩金 体验金 首存 首充 返水 反水 红利 免费送 领红包 "
    "秒到 到账快 极速到账 火速到账 存取款 存提款 出金 充值提款 稳赚 稳赢 包赢 包中 必中 "
    "期期准 期期中 准确率 精准计划 一期计划 带飞 导师 总代理 招代理 加盟代理 代理加盟 "
    "代理合作 信誉第一 信誉最 最高返 最高赔率 赔率最高 亚洲最大 亚洲第一 欢迎您 欢迎来到 "
    "欢迎光临 资料大全 免费公开 免费资料 开奖结果 开奖直播 开奖现场 马会资料 免费试玩 "
    "试玩平台 在线玩 加q 加微 加v 进群 usdt 官方网址 最新网址 备用网址 官网网址 官网登录 "
    "官网入口 官网下载 官网手机 官网app app官网 手机版下载 手机版登录 网页版 在线发牌 "
    "真人发牌 收藏本站 登录入口 登陆入口 注册开户 开户注册 赌场开户 网上开户 bet365官网 "
    "娱乐官网 娱乐网址 棋牌官网 彩票官网"
).split()
_ACCOUNTS = (
    "账号 微信号 qq号 陌陌号 探探号 抖音号 快手号 微博号 邮箱号 推特 脸书 facebook twitter "
    "instagram telegram gmail 小号 老号 白号 成品号 首充号 等级号 直登号 出售 批发 购买 交易 "
    "转让 代充 收购 回收 出租 卖号"
).split()
_ACCOUNT_OFFERS = (
    "加q 加微 加v 加我 联系微信 微信联系 联系q 联系v q联系 自动发卡 自动发货 发卡平台 秒发 "
    "在线下单 下单即 质保 包首登 包换 包售后 支持售后 售后无忧 支持换绑 支持验货 假一赔 "
    "非诚勿扰 有意者 担保交易 平台担保 量大 从优 批发价 低价转让 低价出售 一手货源 货源 "
    "质量稳定 安全稳定 欢迎咨询 欢迎选购 长期供应 长期出售 现货 24小时 商城 高价 有意联系 "
    "当场结算"
).split()
_BUSINESS = (
    "注册 登录 登陆 官网 网址 下载 app 手机版 入口 开户 代理 客服 充值 提款 提现 储值 存款 "
    "信誉 诚信 红包 下单 付款 发货 售后 实名 到账 低价 优惠 老板"
).split()
_ACCOUNT = "(?:账号|微信号|qq号|抖音号|邮箱号|成品号|首充号|等级号|直登号|小号|老号|白号)"
_TRADED_ACCOUNT = re.compile(
    f"(?:出售|批发|购买|转让|收购|回收|出租).{{0,6}}{_ACCOUNT}|"
    f"{_ACCOUNT}.{{0,6}}(?:出售|批发|购买|交易|转让|收购|回收|出租)"
)
# Who reports, judges, warns, regrets or travels says these; who sells seldom does.
_REPORTS = (
    "警方 警察 公安 民警 检察 法院 法律 法规 被告 嫌疑 判处 判决 徒刑 罪 涉案 案件 抓获 落网 "
    "打击 查处 破获 举报 诈骗 被骗 骗局 骗子 受害 违法 违规 非法 监管 记者 提醒 处罚 赌博 "
    "戒赌 沉迷 输光 血本无归 投诉 退款 研究 历史 小说 福彩 体彩 福利彩票 体育彩票 靠谱吗 "
    "可信吗 安全吗 输了 输掉 欠债 还债 赌债 家人 酒店 参观 游客"
).split()
_CHARACTERS_A_WORD = 100  # at the most, on such a page
_BUSINESS_AN_OFFER = 3  # who logs in, pays and asks is a customer of any shop
_ENOUGH = 3  # different goods; with fewer a text is not looked at further


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first.astype(np.uint64) << np.uint64(32) | second


_GOODS = np.array([[ord(one) for one in word[:2]] for word in _GAMES + _ACCOUNTS], np.uint32)
_GOODS_PAIRS = np.unique(_pair(*_GOODS.T))
_BEGINS_GOODS, _GOES_ON = np.zeros((2, 0x110000), bool)
_BEGINS_GOODS[_GOODS[:, 0]] = _GOES_ON[_GOODS[:, 1]] = True


def count_spam_words(texts: Sequence[str]) -> list[int]:
    """How many different words of such a page each text has.

    They are those of its goods or of its offers, whichever are fewer, less those of who reports.
    """
    codes, lengths = folded(texts)
    codes = simplified(codes)
    codes = np.where(codes == ord("帐"), np.uint32(ord("账")), codes)
    ends = np.cumsum(lengths)
    counts = [0] * len(texts)
    for index in np.flatnonzero(_count_goods(codes, ends) >= _ENOUGH):
        text = codes[ends[index] - lengths[index] : ends[index]].tobytes().decode("utf-32-le")
        accounts = _count_pairs(text, _ACCOUNTS, _ACCOUNT_OFFERS)
        if accounts and not _TRADED_ACCOUNT.search(text):
            accounts = 0
        counts[index] = max(_count_pairs(text, _GAMES, _GAMING_OFFERS), accounts)
    return counts


def _count_goods(codes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """At least as many as each text names: by their first two characters, for that is fast."""
    begins = np.flatnonzero(_BEGINS_GOODS[codes[:-1]] & _GOES_ON[codes[1:]])
    begins = begins[np.isin(_pair(codes[begins], codes[begins + 1]), _GOODS_PAIRS)]
    return np.bincount(np.searchsorted(ends, begins, side="right"), minlength=len(ends))


def _count_pairs(text: str, goods: Sequence[str], offers: Sequence[str]) -> int:
    goods = [word for word in goods if word in text]
    if len(goods) < _ENOUGH:
        return 0
    offers = [word for word in offers if word in text]
    if sum(map(text.count, goods + offers)) * _CHARACTERS_A_WORD < len(text):
        return 0
    is_business = sum(word in text for word in _BUSINESS) >= _BUSINESS_AN_OFFER
    reports = sum(word in text for word in _REPORTS)
    return max(min(len(goods), len(offers) + is_business) - reports, 0)
