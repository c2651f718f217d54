import pytest

from beam_pipelines.clean_rules import Thresholds, apply_rules
from beam_pipelines.document import DropReason
from beam_pipelines.spam import count_spam_words

GAMBLING = [
    "新开的娱乐城，百家乐、轮盘和老虎机样样都有，注册送彩金，每天返水，提款秒到，欢迎您来。",
    "新開的娛樂城，百家樂、輪盤和老虎機樣樣都有，註冊送彩金，每天返水，提款秒到，歡迎您來。",
    "娱 乐 城 百.家.乐 老-虎-机，注 册 送 彩 金，返　水 天 天 有，欢 迎 您 来。",
    "六合彩开奖结果，一肖一码期期准，彩票计划群，加微信进群，导师带你稳赚不赔。",
    "bet365备用网址，滚球盘口齐全，赔率最高，投注返水，网页版不用下载，随时可玩。",
    "开云体育官网登录入口，乐鱼体育、华体会同步更新，首存有礼，天天返水，点击注册。",
    "The best casino: blackjack, roulette and 500 slots. Sign up now for a $500 welcome bonus "
    "and 200 free spins.",
]
SHOPS = [
    "批发微信号、qq号，出售各种老号，量大从优，自动发货，支持售后，要的加V详谈。",
    "推特帳號批發，臉書老號出售，自動發卡，在線下單，質保一個月，長期供應各國的號。",
    "王者荣耀账号出售，安卓微信区，皮肤齐全，要的老板加微信详聊，可走平台中介，绝不找回。",
    "我店专业出售各种邮箱，hotmail、gmail，另有推特账号、facebook老号，支持批量，自动发卡。",
    "抖音号转让，粉丝三万，没有违禁记录，走平台中介，价格从优，VX：abc12345。",
    "游戏账号低价转让，另有小号出售，平台担保，假一赔十，有意者联系，非诚勿扰。",
]
GOOD = [
    "东亚博物馆在城市的中心，每年有上百万人参观东亚博物馆，馆里的展品来自三十多个国家。",
    "本届亚博会在城里开幕，三十多个国家参展，亚博会期间还有许多论坛。",
    "三楼的贵宾会议室可以坐二十人，预订贵宾会议室的客人可以免费用投影仪，并有茶点。",
    "请带身份证到就近的现金网点办理，节假日部分现金网点休息，时间以公告为准。",
    "半成品号要先核对，成品号再登记，两种编号不要弄混，错了仓库里就再也找不到货了。",
    "球迷可以登录国家体育官网查赛程，下载体育app看直播，也可以看中国体育官方微博。",
    "金沙网站介绍了遗址怎样被发现，参观的人先在金沙网上预约，再凭证件入馆。",
    "本文摘要：比较了三种办法在小样本上的误差。本文关键词：回归，误差，样本。",
    # Who reports on gambling and on the trade in accounts names all of it.
    "警方近日打掉一个网络赌博平台，平台设百家乐、老虎机、棋牌，以注册送彩金、返水招人下注，主犯已经落网。",
    "法院查明，被告人出售微信号、qq号和各类老号，用自动发货的网站收款，支持售后，获利两万元。",
    "哥哥先玩百家乐，后来玩时时彩，平台注册送彩金，天天返水，他越玩越大，把房子都输了，家人跟着还债。",
    "警方打掉一个赌博平台，网页上有百家乐、老虎机和轮盘，“注册送彩金”“天天返水”“立即注册”“欢迎您”。",
    # So does who travels, plays cards, builds games or is a customer.
    "我们在官网订了威尼斯人，下载app办了入住，晚上去葡京看赌场，里面都是老虎机，没有下注就走了。",
    "德州扑克的下注分四轮，玩家可以跟注或弃牌，赔率要自己算，赌场里的老手都数牌。",
    "我们的棋牌客户端要接登录和充值，捕鱼和牛牛都写完了，注册的接口总报错，新的库在哪里下载？",
    "我想在这个平台购买账号，看中一个老号，卖家还在交易，客服说支持担保交易，到底安全吗？",
    # What a good article names: a way to use services, a city's trade, a history, a sport.
    "在海外使用Facebook、Twitter和Telegram并不难。先用Gmail注册账号，再购买一个套餐，下载客户端就可以登录。"
    "遇到问题可以咨询客服，售后无忧，质保一年，24小时都有人回答，欢迎咨询。",
    "澳门的经济靠博彩，新濠天地、葡京、威尼斯人的娱乐场里有百家乐、轮盘、老虎机，投注额受监察。旅客可在官网预订客房，"
    "下载app，积分可换红包，欢迎光临。",
    "彩票史话：从六合彩到时时彩，从一码到特码，花样很多。开奖结果登在报纸上，人人都说自己期期中，到头来庄家稳赚。",
    "我快三年没回老家了，听说村口开了棋牌室，表哥捕鱼，堂弟学赛车，牛牛都上学了。河上还有人划飞艇。加我微信吧，欢迎来到小城。",
    "百家乐的数学：赔率、投注的次序和返水怎样改变期望值，老虎机的概率为什么算不出来，首存的钱又到哪里去了。",
    "开云体育与开云体育的球场签了约，官网网址不变，天天返水的传闻没有根据，球迷可以在本站留言，欢迎来到球场。",
    "开通微信号以后，可在本店购买会员，质保一年，支持售后，欢迎选购；账号不得转借他人使用。",
    "拉斯维加斯的百家乐、轮盘、老虎机各有玩法。新客注册送筹码，会员有返水，官网登录后可以订房，旅客很多，欢迎光临。",
    "德州扑克入门：投注、赔率与盘口是三个概念。本站的教程不涉及真钱，没有返水，欢迎您留言，点击注册。",
    "会员手册：本店支持售后，质保一年，量大从优，欢迎咨询。会员账号不可转让，积分也不能换钱。",
    "游戏公司规定，账号转让须走平台担保，可以联系微信客服，审核以后自动发货，欢迎咨询。",
    "购买微信号有风险。卖家常说“质保”“假一赔十”“加微信详聊”，其实号随时会被收走，网友要当心。",
    "The casino in this film is all roulette, blackjack and slots; the hero never gets free spins.",
    "在证券公司开立账号以后才能购买基金，转让份额也在这里，客服二十四小时在线。",
]


@pytest.mark.parametrize("text", GAMBLING + SHOPS)
def test_pages_of_gambling_and_of_account_shops_are_spam(text):
    assert apply_rules([text], Thresholds()) == [DropReason.SPAM]


@pytest.mark.parametrize("text", GOOD)
def test_words_in_words_and_reports_are_not(text):
    assert apply_rules([text], Thresholds()) == [None]


GAMES, PROMISES, CALLS = "百家乐、老虎机、六合彩", "返水、首存、稳赚", "加微信、官网登录、进群"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"{GAMES}，返水，进群", 2),
        (f"{GAMES}，返水，进群、官网登录", 3),
        (f"{GAMES}，返水，微信：abc12345", 2),
        (f"{GAMES}，返水，www.abc.com", 2),
        (f"{GAMES}，{PROMISES}，{CALLS}", 3),  # no more than the games
        (f"{GAMES}，{PROMISES}，{CALLS}，骗局", 2),
        (f"{GAMES}，{PROMISES}", 0),  # nobody is called
        (f"{GAMES}，{CALLS}", 0),  # nothing is promised
        (f"百家乐、老虎机，{PROMISES}，{CALLS}", 0),  # two games are no shop
        (f"一肖、百家乐、一肖一码，{PROMISES}，{CALLS}", 0),  # so are these
        ("开云体育官网登录入口，返水，" * 3, 0),  # one, as often as it is named
        (f"出售小号，质保，{CALLS}", 4),
        (f"出售小号，{CALLS}", 0),
        ("出售小号，质保、自动发卡、量大", 0),
        (f"小号、老号，质保，{CALLS}", 0),  # none is sold
        (f"注册小号，出售旧书，质保，{CALLS}", 0),  # nor here
        (f"注册小号。出售旧书，质保，{CALLS}", 0),
        (f"小号一直在出售，质保，{CALLS}", 4),
        (f"小号不要出售，质保，{CALLS}", 0),
    ],
)
def test_promises_and_calls_count_where_there_are_goods(text, count):
    assert count_spam_words([text]) == [count]


def test_a_long_text_that_says_all_of_it_is_no_such_page():
    words = "百家乐、老虎机、六合彩，返水、进群"  # five words: a page of at most 500 characters
    for length, count in ((490, 2), (510, 0)):
        assert count_spam_words([words + "一" * (length - 14)]) == [count]
